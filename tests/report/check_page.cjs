// Checks pages with axe-core and html-validate, as `node check_page.cjs PAGE ...`; prints a line for each problem.
const fs = require("fs");
const axe = require("axe-core");
const { JSDOM } = require("jsdom");
const { HtmlValidate } = require("html-validate");

async function problems(file) {
  const text = fs.readFileSync(file, "utf8");
  const { results } = await new HtmlValidate({ extends: ["html-validate:recommended"] }).validateString(text);
  const lines = results.flatMap((result) => result.messages).map((m) => `${m.ruleId}: ${m.message}`);
  const { window } = new JSDOM(text, { runScripts: "outside-only", pretendToBeVisual: true });
  window.eval(axe.source);
  // contrast needs a layout, which jsdom has not
  const found = await window.axe.run(window.document, { rules: { "color-contrast": { enabled: false } } });
  return lines.concat(found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes[0].html.slice(0, 200)}`));
}

(async () => {
  for (const file of process.argv.slice(2)) {
    for (const line of await problems(file)) console.log(`${file}: ${line}`);
  }
})();
