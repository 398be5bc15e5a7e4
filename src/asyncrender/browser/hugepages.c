// Loaded into Chromium before its own libraries (LD_PRELOAD): has it ask the kernel for huge pages.
// For each frame that it hands out, Chromium maps new memory, and most of the copying into it is page faults: 2000 of
// them at 1080p, a fourth of all that its compositor does. It does not ask for huge pages itself.
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// A whole huge page has room in it wherever it begins.
static const size_t LEAST_BYTES = 4 << 20;
// An 8K picture. What is larger is a heap, of which little may ever be used.
static const size_t MOST_BYTES = 128 << 20;

// Takes the place of the C library's. Chromium's allocator makes memory accessible by it, picture by picture.
int mprotect(void *address, size_t bytes, int access) {
  const int failed = (int)syscall(SYS_mprotect, address, bytes, access);
  if (!failed && (access & PROT_WRITE) && bytes >= LEAST_BYTES && bytes <= MOST_BYTES) {
    const int error = errno;
    // Advice: a process in Chromium's sandbox may not give it (EPERM), a kernel may not know it, nothing else changes.
    madvise(address, bytes, MADV_HUGEPAGE);
    errno = error;
  }
  return failed;
}
