/* bcryptprimitives.dll for Wine before 9.0, which has none: a Go program does not start without its ProcessPrng.
   See "ProcessPrng function" in Microsoft's documentation; SystemFunction036 is RtlGenRandom there. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
  while (size > 0) {
    ULONG part = size > 1 << 20 ? 1 << 20 : (ULONG)size;
    if (!SystemFunction036(data, part)) return FALSE;
    data += part;
    size -= part;
  }
  return TRUE;
}
