// Stands in for libcuda, libcudart, cuBLAS, cuDNN and NVRTC when it is loaded before them (LD_PRELOAD): torch's CUDA
// build then believes in an H200, allocates, launches kernels and records graphs. Nothing is computed: device memory
// cannot be touched, and copies to the host bring zeros. Counts launches by kernel, waits and copies, and refuses what
// CUDA refuses while a stream is being captured.
// FAKEGPU_BYTES: the card's memory. FAKEGPU_CC: its compute capability, as 90. FAKEGPU_WORKSPACE: bytes that cuDNN asks
// for each convolution.
#define CUDNN_DEPRECATED
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cublas_v2.h>
#include <cublasLt.h>
#include <cudnn.h>
#include <sys/mman.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>
#include <set>
#include <atomic>
#include <unistd.h>
#include <sys/syscall.h>
#undef cudaGetDeviceProperties
#undef cudaMemcpyAsync
#define X extern "C" __attribute__((visibility("default")))

static std::recursive_mutex lock_;
#define LOCK std::lock_guard<std::recursive_mutex> guard_(lock_)
static std::map<std::string, long> counts;
static std::map<const void*, std::string> kernels;
static void count(const std::string& what, long by = 1) {
  LOCK;
  counts[what] += by;
}

static size_t capacity() {
  static size_t bytes =
      getenv("FAKEGPU_BYTES") ? (size_t)atof(getenv("FAKEGPU_BYTES")) : (size_t)141 * 1000 * 1000 * 1000;
  return bytes;
}
static size_t used = (size_t)500 << 20;  // the context
static std::map<char*, size_t> blocks, pinned;
static thread_local cudaError_t last = cudaSuccess;
static cudaError_t fail(cudaError_t e) {
  last = e;
  return e;
}

struct Graph {
  long nodes = 0;
  bool broken = false;
  cudaStreamCaptureMode mode;
  long thread;
  std::set<void*> streams;
  std::map<std::string, long> names;
  unsigned long long id;
};
struct Stream {
  Graph* graph = nullptr;
};
struct Event {
  Graph* graph = nullptr;
};
static std::set<Graph*> capturing;
static thread_local cudaStreamCaptureMode own_mode = cudaStreamCaptureModeGlobal;
static long self() { return syscall(SYS_gettid); }
static Graph* graph_of(cudaStream_t s) { return (s && (size_t)s > 16) ? ((Stream*)s)->graph : nullptr; }

static bool refuse_unsafe(const char* what) {  // calls that CUDA refuses while a capture is under way
  LOCK;
  if (own_mode == cudaStreamCaptureModeRelaxed) return false;
  for (Graph* g : capturing) {
    bool hit =
        g->mode == cudaStreamCaptureModeGlobal || (g->mode == cudaStreamCaptureModeThreadLocal && g->thread == self());
    if (hit) {
      g->broken = true;
      counts[std::string("REFUSED in capture: ") + what]++;
      return true;
    }
  }
  return false;
}
static cudaError_t refuse_wait(cudaStream_t s, const char* what) {
  if (Graph* g = graph_of(s)) {
    LOCK;
    g->broken = true;
    counts[std::string("REFUSED in capture: ") + what]++;
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}
static bool is_pinned(const void* p) {
  LOCK;
  auto it = pinned.upper_bound((char*)p);
  if (it == pinned.begin()) return false;
  --it;
  return (char*)p < it->first + it->second;
}
static bool on_device(const void* p) {
  LOCK;
  auto it = blocks.upper_bound((char*)p);
  if (it == blocks.begin()) return false;
  --it;
  return (char*)p < it->first + it->second;
}

static void launched(const void* f, cudaStream_t s, const std::string& name) {
  LOCK;
  if (Graph* g = graph_of(s)) {
    g->nodes++;
    g->names[name]++;
    counts["launches recorded"]++;
    counts["recorded: " + name]++;
  } else {
    counts["launches"]++;
    counts["kernel: " + name]++;
  }
}

X void fakegpu_reset() {
  LOCK;
  counts.clear();
}
X const char* fakegpu_report() {
  LOCK;
  static std::string out;
  out.clear();
  for (auto& c : counts) out += std::to_string(c.second) + "\t" + c.first + "\n";
  return out.c_str();
}

// ---- runtime
X cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
X cudaError_t cudaGetDevice(int* d) {
  *d = 0;
  return cudaSuccess;
}
X cudaError_t cudaSetDevice(int) { return cudaSuccess; }
X cudaError_t cudaDriverGetVersion(int* v) {
  *v = 13000;
  return cudaSuccess;
}
X cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = 13000;
  return cudaSuccess;
}
X cudaError_t cudaGetLastError() {
  auto e = last;
  last = cudaSuccess;
  return e;
}
X cudaError_t cudaPeekAtLastError() { return last; }
X const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation           ? "out of memory"
         : e == cudaErrorStreamCaptureUnsupported ? "operation not permitted when stream is capturing"
         : e == cudaSuccess                       ? "no error"
                                                  : "fake GPU: error";
}
X const char* cudaGetErrorName(cudaError_t e) { return cudaGetErrorString(e); }
X cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "FAKE H200");
  p->totalGlobalMem = capacity();
  p->sharedMemPerBlock = 49152;
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->totalConstMem = 65536;
  const char* cc = getenv("FAKEGPU_CC");
  int v = cc ? atoi(cc) : 90;
  p->major = v / 10;
  p->minor = v % 10;
  p->multiProcessorCount = 132;
  p->textureAlignment = 512;
  p->concurrentKernels = 1;
  p->asyncEngineCount = 3;
  p->unifiedAddressing = 1;
  p->l2CacheSize = 60 << 20;
  p->maxThreadsPerMultiProcessor = 2048;
  p->sharedMemPerMultiprocessor = 233472;
  p->regsPerMultiprocessor = 65536;
  p->sharedMemPerBlockOptin = 232448;
  p->reservedSharedMemPerBlock = 1024;
  p->maxBlocksPerMultiProcessor = 32;
  p->cooperativeLaunch = 1;
  p->canMapHostMemory = 1;
  p->memoryPoolsSupported = 1;
  p->memoryBusWidth = 6144;
  return cudaSuccess;
}
X cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int d) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, d);
  switch (a) {
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMultiProcessorCount: *v = 132; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrComputeCapabilityMajor: *v = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *v = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 232448; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = 233472; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *v = 2048; break;
    case cudaDevAttrMaxGridDimX: *v = 2147483647; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *v = 65535; break;
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: *v = 1024; break;
    case cudaDevAttrMaxBlockDimZ: *v = 64; break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: *v = 65536; break;
    case cudaDevAttrL2CacheSize: *v = 60 << 20; break;
    case cudaDevAttrCooperativeLaunch: *v = 1; break;
    default: *v = 0;
  }
  return cudaSuccess;
}
X cudaError_t cudaMemGetInfo(size_t* f, size_t* t) {
  LOCK;
  *t = capacity();
  *f = capacity() > used ? capacity() - used : 0;
  return cudaSuccess;
}
X cudaError_t cudaMalloc(void** p, size_t n) {
  if (refuse_unsafe("cudaMalloc")) return fail(cudaErrorStreamCaptureUnsupported);
  LOCK;
  n = (n + (2 << 20) - 1) / (2 << 20) * (2 << 20);
  if (used + n > capacity()) {
    counts["cudaMalloc: out of memory"]++;
    *p = nullptr;
    return fail(cudaErrorMemoryAllocation);
  }
  void* at = mmap(nullptr, n + (2 << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return fail(cudaErrorMemoryAllocation);
  char* aligned = (char*)(((size_t)at + (2 << 20) - 1) / (2 << 20) * (2 << 20));
  blocks[aligned] = n;
  used += n;
  counts["cudaMalloc"]++;
  *p = aligned;
  return cudaSuccess;
}
X cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t) { return cudaMalloc(p, n); }
X cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  if (refuse_unsafe("cudaFree")) return fail(cudaErrorStreamCaptureUnsupported);
  LOCK;
  auto it = blocks.find((char*)p);
  if (it != blocks.end()) {
    munmap(p, it->second);
    used -= it->second;
    blocks.erase(it);
    counts["cudaFree"]++;
  }
  return cudaSuccess;
}
X cudaError_t cudaFreeAsync(void* p, cudaStream_t) { return cudaFree(p); }
X cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) {
  if (refuse_unsafe("cudaHostAlloc")) return fail(cudaErrorStreamCaptureUnsupported);
  LOCK;
  *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
  pinned[(char*)*p] = n;
  counts["cudaHostAlloc"]++;
  return cudaSuccess;
}
X cudaError_t cudaMallocHost(void** p, size_t n) { return cudaHostAlloc(p, n, 0); }
X cudaError_t cudaFreeHost(void* p) {
  LOCK;
  pinned.erase((char*)p);
  free(p);
  return cudaSuccess;
}
X cudaError_t cudaHostRegister(void* p, size_t n, unsigned) {
  LOCK;
  pinned[(char*)p] = n;
  return cudaSuccess;
}
X cudaError_t cudaHostUnregister(void* p) {
  LOCK;
  pinned.erase((char*)p);
  return cudaSuccess;
}
X cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  memset(a, 0, sizeof *a);
  if (on_device(p)) {
    a->type = cudaMemoryTypeDevice;
    a->devicePointer = (void*)p;
  } else if (is_pinned(p)) {
    a->type = cudaMemoryTypeHost;
    a->hostPointer = a->devicePointer = (void*)p;
  } else {
    a->type = cudaMemoryTypeUnregistered;
    a->device = -1;
  }
  return cudaSuccess;
}
static cudaError_t copied(void* d, const void* s, size_t n, cudaStream_t stream, bool async) {
  bool to = on_device(d), from = on_device(s);
  std::string kind = to && from ? "D2D"
                     : to       ? (is_pinned(s) ? "H2D pinned" : "H2D pageable")
                     : from     ? (is_pinned(d) ? "D2H pinned" : "D2H pageable")
                                : "H2H";
  if (Graph* g = graph_of(stream)) {
    if (kind == "H2D pageable" || kind == "D2H pageable") {
      refuse_wait(stream, ("copy " + kind).c_str());
      return fail(cudaErrorStreamCaptureUnsupported);
    }
    LOCK;
    g->nodes++;
    counts["recorded: copy " + kind]++;
  } else
    count((async ? "copy " : "copy, waiting ") + kind);
  if (from && !to) memset(d, 0, n);
  if (!from && !to) memcpy(d, s, n);
  return cudaSuccess;
}
X cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind, cudaStream_t stream) {
  return copied(d, s, n, stream, true);
}
X cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind) {
  if (refuse_unsafe("cudaMemcpy")) return fail(cudaErrorStreamCaptureUnsupported);
  return copied(d, s, n, nullptr, false);
}
X cudaError_t cudaMemcpy2DAsync(void* d, size_t, const void* s, size_t, size_t w, size_t h, cudaMemcpyKind,
                                cudaStream_t stream) {
  return copied(d, s, 0, stream, true);
}
X cudaError_t cudaMemcpyPeerAsync(void* d, int, const void* s, int, size_t n, cudaStream_t stream) {
  return copied(d, s, n, stream, true);
}
X cudaError_t cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, cudaMemcpyKind) { return cudaSuccess; }
X cudaError_t cudaMemset(void*, int, size_t) { return cudaSuccess; }
X cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t s) {
  launched(nullptr, s, "memset");
  return cudaSuccess;
}
X cudaError_t cudaDeviceSynchronize() {
  if (refuse_unsafe("cudaDeviceSynchronize")) return fail(cudaErrorStreamCaptureUnsupported);
  count("wait: cudaDeviceSynchronize");
  return cudaSuccess;
}
X cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  if (auto e = refuse_wait(s, "cudaStreamSynchronize")) return fail(e);
  if (refuse_unsafe("cudaStreamSynchronize")) return fail(cudaErrorStreamCaptureUnsupported);
  count("wait: cudaStreamSynchronize");
  return cudaSuccess;
}
X cudaError_t cudaStreamQuery(cudaStream_t s) {
  if (auto e = refuse_wait(s, "cudaStreamQuery")) return fail(e);
  return cudaSuccess;
}
static cudaError_t new_stream(cudaStream_t* s) {
  *s = (cudaStream_t) new Stream;
  return cudaSuccess;
}
X cudaError_t cudaStreamCreate(cudaStream_t* s) { return new_stream(s); }
X cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { return new_stream(s); }
X cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) { return new_stream(s); }
X cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
X cudaError_t cudaStreamGetPriority(cudaStream_t, int* p) {
  *p = 0;
  return cudaSuccess;
}
X cudaError_t cudaDeviceGetStreamPriorityRange(int* a, int* b) {
  *a = 0;
  *b = -5;
  return cudaSuccess;
}
X cudaError_t cudaEventCreate(cudaEvent_t* e) {
  *e = (cudaEvent_t) new Event;
  return cudaSuccess;
}
X cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = (cudaEvent_t) new Event;
  return cudaSuccess;
}
X cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete (Event*)e;
  return cudaSuccess;
}
X cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  ((Event*)e)->graph = graph_of(s);
  return cudaSuccess;
}
X cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned) { return cudaEventRecord(e, s); }
X cudaError_t cudaEventQuery(cudaEvent_t e) {
  if (((Event*)e)->graph && capturing.count(((Event*)e)->graph)) {
    count("REFUSED in capture: cudaEventQuery");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  if (refuse_unsafe("cudaEventQuery")) return fail(cudaErrorStreamCaptureUnsupported);
  return cudaSuccess;
}
X cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  if (refuse_unsafe("cudaEventSynchronize")) return fail(cudaErrorStreamCaptureUnsupported);
  count("wait: cudaEventSynchronize");
  return cudaSuccess;
}
X cudaError_t cudaEventElapsedTime(float* t, cudaEvent_t, cudaEvent_t) {
  *t = 0.1f;
  return cudaSuccess;
}
X cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  Graph* g = ((Event*)e)->graph;
  if (g && capturing.count(g) && s && (size_t)s > 16) {
    LOCK;
    ((Stream*)s)->graph = g;
    g->streams.insert(s);
  }
  return cudaSuccess;
}
X cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  LOCK;
  if (!s || (size_t)s <= 16) return fail(cudaErrorStreamCaptureUnsupported);
  static unsigned long long ids = 1;
  Graph* g = new Graph;
  g->mode = mode;
  g->thread = self();
  g->id = ids++;
  ((Stream*)s)->graph = g;
  g->streams.insert(s);
  capturing.insert(g);
  counts["captures begun"]++;
  return cudaSuccess;
}
X cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t s, cudaGraph_t, const cudaGraphNode_t*,
                                            const cudaGraphEdgeData*, size_t, cudaStreamCaptureMode mode) {
  return cudaStreamBeginCapture(s, mode);
}
X cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* out) {
  LOCK;
  Graph* g = graph_of(s);
  if (!g) return fail(cudaErrorStreamCaptureUnmatched);
  for (void* each : g->streams) ((Stream*)each)->graph = nullptr;
  capturing.erase(g);
  if (g->broken) {
    *out = nullptr;
    counts["captures broken"]++;
    return fail(cudaErrorStreamCaptureInvalidated);
  }
  if (g->mode != cudaStreamCaptureModeRelaxed && g->thread != self()) {
    counts["capture ended by another thread"]++;
    return fail(cudaErrorStreamCaptureWrongThread);
  }
  *out = (cudaGraph_t)g;
  counts["captures ended"]++;
  return cudaSuccess;
}
X cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* st) {
  Graph* g = graph_of(s);
  *st = !g          ? cudaStreamCaptureStatusNone
        : g->broken ? cudaStreamCaptureStatusInvalidated
                    : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
X cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, cudaStreamCaptureStatus* st, unsigned long long* id,
                                       cudaGraph_t* g, const cudaGraphNode_t** d, const cudaGraphEdgeData** ed,
                                       size_t* n) {
  cudaStreamIsCapturing(s, st);
  Graph* own = graph_of(s);
  if (id) *id = own ? own->id : 0;
  if (g) *g = (cudaGraph_t)own;
  if (d) *d = nullptr;
  if (ed) *ed = nullptr;
  if (n) *n = 0;
  return cudaSuccess;
}
X cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t, cudaGraphNode_t*, const cudaGraphEdgeData*, size_t,
                                                  unsigned) {
  return cudaSuccess;
}
X cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* m) {
  std::swap(*m, own_mode);
  return cudaSuccess;
}
X cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* e, cudaGraph_t g, unsigned long long) {
  *e = (cudaGraphExec_t)g;
  count("graphs made");
  count("nodes in graphs", ((Graph*)g)->nodes);
  return cudaSuccess;
}
X cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t) {
  count("graph launches");
  count("nodes replayed", ((Graph*)e)->nodes);
  return cudaSuccess;
}
X cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
X cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) {
  count("graphs destroyed");
  return cudaSuccess;
}
X cudaError_t cudaGraphGetNodes(cudaGraph_t, cudaGraphNode_t*, size_t* n) {
  *n = 1;
  return cudaSuccess;
}
X cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, size_t* n) {
  *n = 0;
  return cudaSuccess;
}
X cudaError_t cudaDeviceCanAccessPeer(int* a, int, int) {
  *a = 0;
  return cudaSuccess;
}
X cudaError_t cudaDeviceGetPCIBusId(char* s, int n, int) {
  snprintf(s, n, "0000:01:00.0");
  return cudaSuccess;
}
X cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void*) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->ptxVersion = a->binaryVersion = 90;
  a->maxDynamicSharedSizeBytes = 49152;
  return cudaSuccess;
}
X cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
X cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) {
  *n = 2;
  return cudaSuccess;
}
X cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void*, int, size_t) {
  *n = 2;
  return cudaSuccess;
}
static std::string name_of(const void* f) {
  LOCK;
  auto it = kernels.find(f);
  return it == kernels.end() ? "?" : it->second;
}
X cudaError_t cudaLaunchKernel(const void* f, dim3 g, dim3 b, void**, size_t, cudaStream_t s) {
  if (g.x == 0 || g.y == 0 || g.z == 0 || b.x * b.y * b.z > 1024 || g.y > 65535 || g.z > 65535) {
    count("BAD LAUNCH: " + name_of(f));
    return fail(cudaErrorInvalidConfiguration);
  }
  launched(f, s, name_of(f));
  return cudaSuccess;
}
X cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* f, void**) {
  launched(f, c->stream, name_of(f));
  return cudaSuccess;
}
X cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 g, dim3 b, void** a, size_t m, cudaStream_t s) {
  return cudaLaunchKernel((const void*)k, g, b, a, m, s);
}
X cudaError_t __cudaGetKernel(cudaKernel_t* k, const void* f) {
  *k = (cudaKernel_t)f;
  return cudaSuccess;
}
X cudaError_t cudaGetSymbolAddress(void** p, const void*) {
  static void* room = nullptr;
  if (!room) cudaMalloc(&room, 1 << 20);
  *p = room;
  return cudaSuccess;
}
X void** __cudaRegisterFatBinary(void*) {
  static void* p;
  return &p;
}
X void __cudaRegisterFatBinaryEnd(void**) {}
X void __cudaUnregisterFatBinary(void**) {}
X void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*, void*, void*,
                              int*) {
  LOCK;
  kernels[host] = name;
}
X void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
X char __cudaInitModule(void**) { return 1; }
static thread_local std::vector<std::tuple<dim3, dim3, size_t, cudaStream_t>> config;
X unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t m, cudaStream_t s) {
  config.push_back({g, b, m, s});
  return 0;
}
X cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* m, void* s) {
  auto [G, B, M, S] = config.back();
  config.pop_back();
  *g = G;
  *b = B;
  *m = M;
  *(cudaStream_t*)s = S;
  return cudaSuccess;
}
static int nothing() { return 0; }
#include <dlfcn.h>
X cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** f, unsigned, unsigned long long,
                                               cudaDriverEntryPointQueryResult* r) {
  *f = dlsym(RTLD_DEFAULT, name);
  if (!*f) *f = (void*)nothing;
  if (r) *r = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
X cudaError_t cudaGetDriverEntryPoint(const char* name, void** f, unsigned long long fl,
                                      cudaDriverEntryPointQueryResult* r) {
  return cudaGetDriverEntryPointByVersion(name, f, 0, fl, r);
}

// ---- driver
#define D(name, args, body) \
  X CUresult name args {    \
    body;                   \
    return CUDA_SUCCESS;    \
  }
#undef cuCtxCreate
#undef cuDevicePrimaryCtxRelease
D(cuInit, (unsigned), )
D(cuDriverGetVersion, (int* v), *v = 13000)
D(cuDeviceGetCount, (int* n), *n = 1)
D(cuDeviceGet, (CUdevice * d, int), *d = 0)
D(cuDeviceGetAttribute, (int* v, CUdevice_attribute a, CUdevice d), cudaDeviceGetAttribute(v, (cudaDeviceAttr)a, d))
D(cuDeviceGetName, (char* s, int n, CUdevice), snprintf(s, n, "FAKE H200"))
D(cuDevicePrimaryCtxGetState, (CUdevice, unsigned* f, int* a), if (f) * f = 0; *a = 1)
D(cuDevicePrimaryCtxRetain, (CUcontext * c, CUdevice), *c = (CUcontext)0x1000)
D(cuCtxGetCurrent, (CUcontext * c), *c = (CUcontext)0x1000)
D(cuCtxSetCurrent, (CUcontext), )
D(cuCtxGetDevice, (CUdevice * d), *d = 0)
D(cuCtxGetLimit, (size_t* v, CUlimit), *v = 0)
D(cuModuleLoadData, (CUmodule * m, const void*), *m = (CUmodule)0x2000)
D(cuModuleLoad, (CUmodule * m, const char*), *m = (CUmodule)0x2000)
D(cuModuleUnload, (CUmodule), )
D(cuModuleGetFunction, (CUfunction * f, CUmodule, const char* name), *f = (CUfunction) new std::string(name))
D(cuFuncGetAttribute, (int* v, CUfunction_attribute a, CUfunction),
  *v = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
       : a == CU_FUNC_ATTRIBUTE_NUM_REGS            ? 32
                                                    : 0)
D(cuFuncSetAttribute, (CUfunction, CUfunction_attribute, int), )
D(cuFuncSetCacheConfig, (CUfunction, CUfunc_cache), )
D(cuGetErrorString, (CUresult, const char** s), *s = "fake")
D(cuPointerGetAttribute, (void* v, CUpointer_attribute a, CUdeviceptr p),
  if (a == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) * (CUdeviceptr*)v = p;
  else if (a == CU_POINTER_ATTRIBUTE_CONTEXT) * (void**)v = (void*)0x1000; else * (int*)v = CU_MEMORYTYPE_DEVICE)
D(cuLaunchKernelEx, (const CUlaunchConfig* c, CUfunction f, void**, void**),
  launched(f, (cudaStream_t)c->hStream, "triton " + *(std::string*)f))
X CUresult cuLaunchKernel(CUfunction f, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                          CUstream s, void**, void**) {
  launched(f, (cudaStream_t)s, "triton " + *(std::string*)f);
  return CUDA_SUCCESS;
}
D(cuOccupancyMaxActiveClusters, (int* n, CUfunction, const CUlaunchConfig*), *n = 8)
D(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int* n, CUfunction, int, size_t), *n = 2)

// ---- cuBLAS
static thread_local cudaStream_t blas_stream;
X cublasStatus_t cublasCreate_v2(cublasHandle_t* h) {
  *h = (cublasHandle_t)0x3000;
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t s) {
  blas_stream = s;
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasGetMathMode(cublasHandle_t, cublasMath_t* m) {
  *m = CUBLAS_DEFAULT_MATH;
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t, cublasPointerMode_t* m) {
  *m = CUBLAS_POINTER_MODE_HOST;
  return CUBLAS_STATUS_SUCCESS;
}
X int fakegpu_gemm() {
  launched(nullptr, blas_stream, "cublas gemm");
  return 0;
}
X cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                                cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t r[],
                                                int* n) {
  memset(r, 0, sizeof *r);
  *n = 1;
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*,
                                cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t, const void*, const void*,
                                cublasLtMatrixLayout_t, void*, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t*,
                                void*, size_t, cudaStream_t s) {
  launched(nullptr, s, "cublasLtMatmul");
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t, cudaDataType_t) {
  *d = (cublasLtMatmulDesc_t)0x3100;
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* d) {
  *d = (cublasLtMatmulPreference_t)0x3200;
  return CUBLAS_STATUS_SUCCESS;
}
X cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* d, cudaDataType, uint64_t, uint64_t, int64_t) {
  *d = (cublasLtMatrixLayout_t)0x3300;
  return CUBLAS_STATUS_SUCCESS;
}
X size_t cublasLtGetVersion() { return 130100; }

// ---- cuDNN
struct Desc {
  int kind;
  std::map<int, std::vector<char>> set;
};
static thread_local cudaStream_t dnn_stream;
X cudnnStatus_t cudnnCreate(cudnnHandle_t* h) {
  *h = (cudnnHandle_t)0x4000;
  return CUDNN_STATUS_SUCCESS;
}
X cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t s) {
  dnn_stream = s;
  return CUDNN_STATUS_SUCCESS;
}
X cudnnStatus_t cudnnGetStream(cudnnHandle_t, cudaStream_t* s) {
  *s = dnn_stream;
  return CUDNN_STATUS_SUCCESS;
}
X size_t cudnnGetVersion() { return CUDNN_VERSION; }
X size_t cudnnGetCudartVersion() { return 13000; }
X const char* cudnnGetErrorString(cudnnStatus_t) { return "fake cudnn"; }
X void cudnnGetLastErrorString(char* s, size_t n) { snprintf(s, n, "fake cudnn"); }
X cudnnStatus_t cudnnGetProperty(libraryPropertyType t, int* v) {
  *v = t == MAJOR_VERSION ? CUDNN_MAJOR : t == MINOR_VERSION ? CUDNN_MINOR : CUDNN_PATCHLEVEL;
  return CUDNN_STATUS_SUCCESS;
}
X cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t t, cudnnBackendDescriptor_t* d) {
  Desc* x = new Desc;
  x->kind = t;
  *d = x;
  return CUDNN_STATUS_SUCCESS;
}
X cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) { return CUDNN_STATUS_SUCCESS; }
X cudnnStatus_t cudnnBackendInitialize(cudnnBackendDescriptor_t) { return CUDNN_STATUS_SUCCESS; }
X cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t) { return CUDNN_STATUS_SUCCESS; }
static int width(int type) {
  switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_DOUBLE: return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4;
  }
}
X cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t a,
                                         cudnnBackendAttributeType_t t, int64_t n, const void* v) {
  Desc* x = (Desc*)d;
  const char* p = (const char*)v;
  x->set[a].assign(p, p + n * width(t));
  return CUDNN_STATUS_SUCCESS;
}
X cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t a,
                                         cudnnBackendAttributeType_t t, int64_t want, int64_t* n, void* v) {
  Desc* x = (Desc*)d;
  auto it = x->set.find(a);
  if (a == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
    if (n) *n = 1;
    if (want > 0 && v) {
      if (n) *n = 1;
    }
    return CUDNN_STATUS_SUCCESS;
  }
  if (a == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE || a == CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE) {
    static long w = getenv("FAKEGPU_WORKSPACE") ? atol(getenv("FAKEGPU_WORKSPACE")) : 0;
    if (n) *n = 1;
    *(int64_t*)v = w;
    return CUDNN_STATUS_SUCCESS;
  }
  if (a == CUDNN_ATTR_ENGINE_GLOBAL_INDEX && it == x->set.end()) {
    if (n) *n = 1;
    if (v) *(int64_t*)v = 0;
    return CUDNN_STATUS_SUCCESS;
  }
  if (a == CUDNN_ATTR_ENGINECFG_ENGINE) {
    if (n) *n = 1;
    return CUDNN_STATUS_SUCCESS;
  }
  if (a == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE || a == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE ||
      a == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES || a == CUDNN_ATTR_ENGINE_KNOB_INFO) {
    if (n) *n = 0;
    return CUDNN_STATUS_SUCCESS;
  }
  if (it != x->set.end()) {
    if (n) *n = it->second.size() / width(t);
    if (v && want > 0) memcpy(v, it->second.data(), std::min<size_t>(it->second.size(), want * width(t)));
    return CUDNN_STATUS_SUCCESS;
  }
  if (n) *n = 0;
  return CUDNN_STATUS_SUCCESS;
}
// the operation behind a plan: plan -> engine config -> engine -> operation graph -> operations; engine configs that
// heuristics made know nothing
X cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t) {
  launched(nullptr, dnn_stream, "cudnn convolution");
  return CUDNN_STATUS_SUCCESS;
}
#define MAKE(name, T)            \
  X cudnnStatus_t name(T* d) {   \
    static long next = 0x5000;   \
    *d = (T)(next += 64);        \
    return CUDNN_STATUS_SUCCESS; \
  }
MAKE(cudnnCreateTensorDescriptor, cudnnTensorDescriptor_t)
MAKE(cudnnCreateFilterDescriptor, cudnnFilterDescriptor_t)
MAKE(cudnnCreateConvolutionDescriptor, cudnnConvolutionDescriptor_t)
MAKE(cudnnCreateSpatialTransformerDescriptor, cudnnSpatialTransformerDescriptor_t)
MAKE(cudnnCreateActivationDescriptor, cudnnActivationDescriptor_t)
MAKE(cudnnCreatePoolingDescriptor, cudnnPoolingDescriptor_t)
MAKE(cudnnCreateDropoutDescriptor, cudnnDropoutDescriptor_t)
// ---- NVRTC: torch makes a few kernels (exp2, for one) as they are first used
#define N(name, args, body) \
  X int name args {         \
    body;                   \
    return 0;               \
  }
N(nvrtcVersion, (int* a, int* b), *a = 13; *b = 0)
N(nvrtcCreateProgram, (void** p, const char*, const char*, int, const char* const*, const char* const*),
  *p = (void*)0x6000;
  count("nvrtc: kernels compiled at first use"))
N(nvrtcDestroyProgram, (void**), )
N(nvrtcCompileProgram, (void*, int, const char* const*), )
N(nvrtcGetPTXSize, (void*, size_t* n), *n = 8)
N(nvrtcGetPTX, (void*, char* s), memset(s, 0, 8))
N(nvrtcGetCUBINSize, (void*, size_t* n), *n = 8)
N(nvrtcGetCUBIN, (void*, char* s), memset(s, 0, 8))
N(nvrtcGetProgramLogSize, (void*, size_t* n), *n = 1)
N(nvrtcGetProgramLog, (void*, char* s), *s = 0)
N(nvrtcAddNameExpression, (void*, const char*), )
N(nvrtcGetLoweredName, (void*, const char* e, const char** out), *out = "jitted")
X const char* nvrtcGetErrorString(int) { return "fake nvrtc"; }
// torch looks NVRTC's functions up in its own library: they are to be these
X void* dlsym(void* handle, const char* name) {
  static auto real = (void* (*)(void*, const char*))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  static void* me = nullptr;
  if (strncmp(name, "nvrtc", 5) == 0) {
    if (!me) {
      Dl_info info;
      dladdr((void*)&fakegpu_reset, &info);
      me = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    }
    if (void* own = real(me, name)) return own;
  }
  return real(handle, name);
}
