/* sdk.h - as much of Windows' C library, and with SDK_WINDOWS of <windows.h>, as latephase.h needs:
   for compilers that aim at Windows on a machine without its headers.  See tests/matrix.sh. */
#ifndef SDK_H
#define SDK_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
typedef unsigned char      uint8_t;
typedef unsigned short     uint16_t;
typedef int                int32_t;
typedef unsigned int       uint32_t;
typedef long long          int64_t;
typedef unsigned long long uint64_t;
typedef size_t             uintptr_t;
#define UINT64_C(n) n##ull
#define INT64_MAX 0x7fffffffffffffffll
#define PTRDIFF_MAX (sizeof(void *) == 8 ? (ptrdiff_t)INT64_MAX : 0x7fffffff)

typedef struct FILE FILE;
#define SEEK_SET 0
#define SEEK_END 2
#define EINTR 4
#define EACCES 13
#define errno (*_errno())
int      *_errno(void);
FILE     *fopen(const char *, const char *);
int       fclose(FILE *);
int       fflush(FILE *);
int       fseek(FILE *, long, int);
long      ftell(FILE *);
size_t    fread(void *, size_t, size_t, FILE *);
size_t    fwrite(const void *, size_t, size_t, FILE *);
void      clearerr(FILE *);
int       remove(const char *);
char     *strerror(int);
void     *malloc(size_t);
void      free(void *);
void     *_aligned_malloc(size_t, size_t);
void      _aligned_free(void *);
void     *memcpy(void *, const void *, size_t);
void     *memset(void *, int, size_t);
long      _InterlockedExchangeAdd(long volatile *, long);
uintptr_t _beginthreadex(void *, unsigned, unsigned(__stdcall *)(void *), void *, unsigned,
                         unsigned *);
#ifdef __cplusplus
}
#endif
#endif

#if defined(SDK_WINDOWS) && !defined(_WINDOWS_)
#define _WINDOWS_
#define _WIN32_WINNT 0x0A00
#define WINBASEAPI __declspec(dllimport)
#define WINAPI __stdcall
/* names that only a careless header minds */
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char

#ifdef __cplusplus
extern "C" {
#endif
typedef int            BOOL;
typedef unsigned short WORD;
typedef unsigned long  DWORD, ULONG;
typedef const char    *LPCSTR;
typedef void          *HANDLE, *PVOID;
typedef struct _RTL_SRWLOCK {
    PVOID Ptr;
} RTL_SRWLOCK, *PSRWLOCK;
typedef struct _RTL_CONDITION_VARIABLE {
    PVOID Ptr;
} RTL_CONDITION_VARIABLE, *PCONDITION_VARIABLE;
WINBASEAPI void WINAPI  AcquireSRWLockExclusive(PSRWLOCK);
WINBASEAPI void WINAPI  ReleaseSRWLockExclusive(PSRWLOCK);
WINBASEAPI BOOL WINAPI  SleepConditionVariableSRW(PCONDITION_VARIABLE, PSRWLOCK, DWORD, ULONG);
WINBASEAPI void WINAPI  WakeAllConditionVariable(PCONDITION_VARIABLE);
WINBASEAPI DWORD WINAPI WaitForSingleObject(HANDLE, DWORD);
WINBASEAPI BOOL WINAPI  CloseHandle(HANDLE);
WINBASEAPI DWORD WINAPI GetActiveProcessorCount(WORD);
WINBASEAPI BOOL WINAPI  MoveFileExA(LPCSTR, LPCSTR, DWORD);
#ifdef __cplusplus
}
#endif
#endif
