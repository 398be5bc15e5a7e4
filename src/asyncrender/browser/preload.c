// Loaded into Chromium before its own libraries (LD_PRELOAD): memory for pictures is kept, and in huge pages.
//
// For each frame that it hands out, Chromium's allocator makes memory for a picture accessible (mprotect), and gives it
// back when the frame is gone (mmap with PROT_NONE over it). Each time it is new to the process: 2000 page faults at
// 1080p, half of all that the compositor does. Here it stays with the process, inaccessible as before, and when it is
// made accessible again it is filled with zeros, as new memory is. So nobody can tell, but by the time it takes.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(void *) == 8, "elsewhere mmap takes its arguments differently");

// What is smaller costs little, what is larger than an 8K picture is a heap, of which little may ever be used.
static const size_t LEAST_BYTES = 1 << 20, MOST_BYTES = 128 << 20;
// A whole huge page has room in it wherever it begins.
static const size_t HUGE_BYTES = 4 << 20;
// At one time, of each process: eight pictures of 1080p, or two of 4K.
static const size_t KEPT_BYTES = 70 << 20;

enum { RANGES = 16 };

// Memory that was made writable in one go. No two overlap. `bytes` is 0 where there is none.
typedef struct {
  char *start;
  size_t bytes;
  bool kept;  // given back by its owner, and inaccessible: what is in it is nobody's
} Range;

static Range ranges[RANGES];
static size_t kept_bytes;
static unsigned oldest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void acquire(void) { pthread_mutex_lock(&lock); }
static void release(void) { pthread_mutex_unlock(&lock); }

static int kernel_mprotect(void *start, size_t bytes, int access) {
  return (int)syscall(SYS_mprotect, start, bytes, access);
}

static void *kernel_mmap(void *start, size_t bytes, int access, int flags, int file, off_t offset) {
  return (void *)syscall(SYS_mmap, start, bytes, access, flags, file, offset);
}

static bool overlaps(const Range *range, const char *start, size_t bytes) {
  return range->bytes && range->start < start + bytes && start < range->start + range->bytes;
}

static void set_kept(Range *range, bool kept) {
  kept_bytes = kept ? kept_bytes + range->bytes : kept_bytes - range->bytes;
  range->kept = kept;
}

// Something else happens to a range or a part of it: from now on it is memory as any other.
static void forget(Range *range) {
  const int error = errno, flags = MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE;
  if (range->kept) {
    kernel_mmap(range->start, range->bytes, PROT_NONE, flags, -1, 0);
    set_kept(range, false);
  }
  range->bytes = 0;
  errno = error;
}

static void forget_all_in(char *start, size_t bytes) {
  for (Range *range = ranges; range < ranges + RANGES; range++)
    if (overlaps(range, start, bytes)) forget(range);
}

// In a free place, else in that of the one which has been there longest.
static void remember(char *start, size_t bytes) {
  Range *place = &ranges[oldest++ % RANGES];
  for (Range *range = ranges; range < ranges + RANGES && place->bytes; range++)
    if (!range->bytes) place = range;
  forget(place);
  *place = (Range){start, bytes, false};
}

static Range *kept_at(const char *start, size_t bytes) {
  for (Range *range = ranges; range < ranges + RANGES; range++)
    if (range->kept && range->start == start && range->bytes == bytes) return range;
  return NULL;
}

// Its owner gives back memory from `start` on. Whether a range in it was kept, and only what is around it given back.
static bool keep(char *start, size_t bytes, int flags) {
  Range *within = NULL;
  for (Range *range = ranges; range < ranges + RANGES; range++)
    if (overlaps(range, start, bytes)) {
      if (within) return false;
      within = range;
    }
  if (!within || within->kept || within->start < start || within->start + within->bytes > start + bytes) return false;
  if (kept_bytes + within->bytes > KEPT_BYTES || kernel_mprotect(within->start, within->bytes, PROT_NONE)) return false;
  char *const after = within->start + within->bytes;
  const size_t before_bytes = (size_t)(within->start - start), after_bytes = (size_t)(start + bytes - after);
  if (before_bytes && kernel_mmap(start, before_bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED) return false;
  if (after_bytes && kernel_mmap(after, after_bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED) return false;
  set_kept(within, true);
  return true;
}

// A child is born with the lock free and nothing kept, whatever other threads were doing. To hold the lock meanwhile, as
// is usual, would hang now and then: a thread that waits for it may hold the allocator's, which a fork waits for, too.
static void on_birth(void) {
  lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  for (Range *range = ranges; range < ranges + RANGES; range++) forget(range);
  kept_bytes = 0;
}

__attribute__((constructor)) static void on_load(void) { pthread_atfork(NULL, NULL, on_birth); }

// From here on: what takes the place of the C library's.

int mprotect(void *address, size_t bytes, int access) {
  char *const start = address;
  const bool picture = (access & PROT_WRITE) && bytes >= LEAST_BYTES && bytes <= MOST_BYTES;
  acquire();
  Range *const range = picture ? kept_at(start, bytes) : NULL;
  if (!range) forget_all_in(start, bytes);
  const int failed = kernel_mprotect(start, bytes, access), error = errno;
  if (!failed && range) set_kept(range, false);
  else if (!failed && picture) remember(start, bytes);
  release();
  if (failed || !picture) return failed;
  if (range) memset(start, 0, bytes);
  // Advice: a process in Chromium's sandbox may not give it (EPERM), a kernel may not know it, nothing else changes.
  else if (bytes >= HUGE_BYTES) madvise(start, bytes, MADV_HUGEPAGE);
  errno = error;
  return 0;
}

void *mmap64(void *address, size_t bytes, int access, int flags, int file, off_t offset) {
  if (!(flags & MAP_FIXED)) return kernel_mmap(address, bytes, access, flags, file, offset);
  const bool given_back = access == PROT_NONE && (flags & MAP_ANONYMOUS) && (flags & MAP_PRIVATE);
  acquire();
  void *mapped = address;
  if (!given_back || !keep(address, bytes, flags)) {
    forget_all_in(address, bytes);
    mapped = kernel_mmap(address, bytes, access, flags, file, offset);
  }
  release();
  return mapped;
}

void *mmap(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap64")));

int munmap(void *address, size_t bytes) {
  acquire();
  forget_all_in(address, bytes);
  const int failed = (int)syscall(SYS_munmap, address, bytes);
  release();
  return failed;
}

void *mremap(void *address, size_t bytes, size_t wanted, int flags, ...) {
  __builtin_va_list rest;
  __builtin_va_start(rest, flags);
  void *const target = flags & MREMAP_FIXED ? __builtin_va_arg(rest, void *) : NULL;
  __builtin_va_end(rest);
  acquire();
  forget_all_in(address, bytes);
  if (target) forget_all_in(target, wanted);
  void *const moved = (void *)syscall(SYS_mremap, address, bytes, wanted, flags, target);
  release();
  return moved;
}
