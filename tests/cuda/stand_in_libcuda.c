/* Stands in for the NVIDIA driver's libcuda.so.1 where no GPU is: it answers "no device" to everything.
 *
 * mxnet-cu112 links the driver's library, so that without it the package cannot even be imported. With this file the
 * import, and every CPU operator, can be tested on a machine that has no NVIDIA driver.
 */
#define NO_DEVICE 100
#define ANSWER(name) int name() { return NO_DEVICE; }

int cuDriverGetVersion(int *version) { *version = 11080; return 0; }
int cuDeviceGetCount(int *count) { *count = 0; return NO_DEVICE; }
int cuGetErrorString(int error, const char **text) { *text = "no CUDA-capable device is detected"; return 0; }
int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
    *function = 0;
    return NO_DEVICE;
}
ANSWER(cuInit)
ANSWER(cuDeviceGet)
ANSWER(cuDeviceGetAttribute)
ANSWER(cuDevicePrimaryCtxRetain)
ANSWER(cuGraphKernelNodeGetParams)
ANSWER(cuGraphNodeGetType)
ANSWER(cuLaunchKernel)
ANSWER(cuModuleGetFunction)
ANSWER(cuModuleLoadData)
ANSWER(cuModuleLoadDataEx)
ANSWER(cuModuleUnload)
