// What a picture is made of, as the server reads it, and how it is called.
export const sameOrigin = (a, b) => Boolean(a && b) && (a.z ? a.z === b.z : !b.z && a.seed === b.seed);
export const isPlain = (point) => point.z === undefined && !Object.keys(point.moves ?? {}).length && !point.mix;

export function nameOf(point) {
  const base = point.z === undefined ? `Seed ${point.seed}` : `Latent ${fingerprint(point.z)}`;
  return point.mix ? `${base} with ${nameOf(point.mix.with).toLowerCase()}` : base;
}

// Four letters that tell latents apart.
export function fingerprint(z) {
  let hash = 2166136261;
  for (let at = 0; at < z.length; at++) hash = Math.imul(hash ^ z.charCodeAt(at), 16777619) >>> 0;
  return hash.toString(36).slice(-4).toUpperCase();
}

export function detailsOf(point) {
  const moves = Object.keys(point.moves ?? {}).length;
  return moves ? [`${moves} ${moves === 1 ? "move" : "moves"}`] : [];
}

// Sets a direction's degrees.
export function moved(point, name, degrees) {
  const moves = { ...point.moves, [name]: degrees };
  if (!degrees) delete moves[name];
  const { moves: _, ...rest } = point;
  return Object.keys(moves).length ? { ...rest, moves } : rest;
}
