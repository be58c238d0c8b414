/*
 * cc.h: the engine's public interface.
 *
 * One machine is RAM + one vCPU + devices + an event queue ordered by virtual time.  This header is the only one
 * that programs outside native/ include, and the source of the Python binding's declarations, so it holds plain
 * declarations and integer constants only (build.py strips the preprocessor lines around them).
 *
 * Every function that can fail returns 0 or a negative CC_E* code; cc_error() then gives one line saying what
 * went wrong and what to do.  A machine may be used by one thread at a time; different machines are independent,
 * also when they share a page store.  Times are virtual nanoseconds (vns) or retired instructions (instret).
 */
#ifndef CC_H
#define CC_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

/* [cdef-begin] */

/* ---- error codes -------------------------------------------------------------------------------------------- */
#define CC_OK 0
#define CC_EINVAL -1       /* an argument is outside its documented range */
#define CC_ENOMEM -2       /* the host refused memory */
#define CC_EBUDGET -3      /* the page store's memory budget would be passed */
#define CC_EFAULT -4       /* a guest virtual address is not mapped, or physical memory is out of range */
#define CC_ENOTSUP -5      /* this host or vCPU kind cannot do it */
#define CC_EHOST -6        /* a host facility failed (the KVM device, mmap, ...) */

/* ---- why a run stopped ---------------------------------------------------------------------------------------- */
#define CC_STOP_NONE 0
#define CC_STOP_INSTRET 1       /* the asked instruction count was reached, exactly (KVM: at the next exit) */
#define CC_STOP_VNS 2           /* the asked virtual time was reached (first boundary at or after it) */
#define CC_STOP_CONSOLE 3       /* the console pattern was completed by the last retired instruction */
#define CC_STOP_HYPERCALL 4     /* the guest wrote the SDK port; the page is in guest memory */
#define CC_STOP_HALTED 5        /* halted and nothing can ever wake it */
#define CC_STOP_SHUTDOWN 6      /* power-off through the debug-exit port; detail = value written */
#define CC_STOP_TRIPLE_FAULT 7
#define CC_STOP_RESET 8         /* the guest asked for a reset; detail = the port (0x64, 0x92, 0xCF9) */
#define CC_STOP_CANCELLED 9     /* cc_cancel() was called; the machine can be run on */
#define CC_STOP_ERROR 10        /* the engine cannot go on; cc_error() says why */
#define CC_STOP_COVERAGE 11     /* the guest wrote the coverage port */
#define CC_STOP_EXITS 12        /* the asked number of exits was reached */
#define CC_STOP_POWER_OFF 13    /* the power was cut: cc_power_off() */
#define CC_STOP_WATCH 14        /* something watched was met; detail = the watch, cc_watch_hit_get() has the rest */

/* ---- what a run stops at besides its limits: bits of cc_until.stop_at ------------------------------------------- */
#define CC_AT_CONSOLE 1
#define CC_AT_HYPERCALL 2
#define CC_AT_COVERAGE 4
#define CC_AT_SETUP 8          /* setup_complete; reported as CC_STOP_HYPERCALL */
#define CC_AT_FAILURE 16       /* an always that was false, an unreachable reached; CC_STOP_HYPERCALL */
#define CC_AT_WATCH 32         /* see cc_watches_set() */

#define CC_NO_TIME 0xFFFFFFFFFFFFFFFF

#define CC_VCPU_SOFT 0
#define CC_VCPU_KVM 1

/* KVM cannot count instructions: on that vCPU each port access (each element of a string one), MMIO access and HLT
 * adds this many to instret, and nothing else does.  So a limit stops at the first of those at or past it, and a
 * guest that waits for time to pass without any of them waits for ever.  A run without an exit ends as cancelled after
 * some 50 ms of host time, for the caller to look around; it can be run on, and the guest cannot tell. */
#define CC_KVM_EXIT_INSNS 1000

typedef struct cc_machine cc_machine;
typedef struct cc_store cc_store;
typedef struct cc_snapshot cc_snapshot;

typedef struct cc_config {
    uint64_t ram_bytes;        /* multiple of 4 KiB, 1 MiB .. 3 GiB */
    uint64_t seed;             /* of this machine's random streams */
    uint64_t ns_per_insn;      /* virtual nanoseconds per retired instruction, >= 1 */
    uint64_t tsc_khz;          /* TSC ticks per virtual millisecond */
    int64_t rtc_epoch_s;       /* what the CMOS clock shows at virtual time 0, Unix seconds UTC */
    uint32_t cpu_profile;      /* versioned CPUID profile; 1 is the first */
    uint32_t vcpu;             /* CC_VCPU_* */
    uint32_t machine_id;       /* index in its cluster */
    uint32_t tlb_bits;         /* log2 of software TLB entries per mode, 4..12; a host-side cache size only */
    uint32_t code_cache_kib;   /* decoded-code cache, KiB; a host-side cache size only */
    uint32_t flags;            /* CC_CFG_* */
    uint32_t devices;          /* CC_DEV_*: the virtio devices that the machine has */
    uint32_t pad;
    uint64_t disk_bytes;       /* size of the disk, a multiple of 4 KiB up to 64 GiB; 0 without CC_DEV_BLK */
} cc_config;

/* Each device has a 4 KiB window at 0xD0000000 + 0x1000 * its number here, and the interrupt line named. */
#define CC_DEV_BLK 1           /* window 0, IRQ 5 */
#define CC_DEV_NET 2           /* window 1, IRQ 6 */
#define CC_DEV_RNG 4           /* window 2, IRQ 7 */
#define CC_DEV_BALLOON 8       /* window 3, IRQ 9 */
#define CC_DEV_CONSOLE 16      /* window 4, IRQ 10: the guest agent's channel */
#define CC_DEV_ALL 31

#define CC_CFG_NO_FUSE 1       /* decode without instruction fusion (a differential test's reference) */

/* x87 register: 64-bit significand, then sign and exponent, as FXSAVE lays it out. */
typedef struct cc_x87reg { uint64_t mant; uint16_t sexp; uint16_t pad[3]; } cc_x87reg;
typedef struct cc_xmmreg { uint64_t q[2]; } cc_xmmreg;

/* A segment register with its hidden part; attr is the descriptor's access byte | flags nibble << 12
 * (bits 0-7 and 12-15 as in VMX's access rights; bit 16 = unusable). */
typedef struct cc_segment { uint64_t base; uint32_t limit; uint32_t attr; uint16_t selector; uint16_t pad[3]; } cc_segment;
typedef struct cc_dtable { uint64_t base; uint16_t limit; uint16_t pad[3]; } cc_dtable;

/* Complete architectural state of one vCPU.  gpr: RAX RCX RDX RBX RSP RBP RSI RDI R8..R15.
 * seg: ES CS SS DS FS GS (the encoding of the instruction set). */
typedef struct cc_regs {
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t rflags;
    cc_segment seg[6];
    cc_segment ldtr;
    cc_segment tr;
    cc_dtable gdtr;
    cc_dtable idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t dr[8];
    uint64_t efer;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, misc_enable;
    int64_t tsc_offset;        /* added to the TSC derived from virtual time */
    cc_x87reg st[8];           /* physical registers R0..R7, not stack order */
    uint16_t fcw, fsw, ftw;    /* ftw: full 16-bit tag word, by physical register */
    uint16_t fop;
    uint64_t fip, fdp;
    cc_xmmreg xmm[16];
    uint32_t mxcsr;
    uint8_t halted;            /* in HLT */
    uint8_t shadow;            /* interrupts blocked for one instruction: 1 STI, 2 MOV SS / POP SS; bits 4-7: data
                                  breakpoints (DR6.B0-B3) that MOV SS met, due after that instruction (soft only) */
    uint8_t nmi_blocked;
    uint8_t nmi_pending;
} cc_regs;

typedef struct cc_until {
    uint64_t instret;          /* absolute; UINT64_MAX: no limit.  KVM: the first exit at or past it */
    uint64_t vns;              /* absolute; UINT64_MAX: no limit */
    uint64_t exits;            /* absolute cc_stats.exits; UINT64_MAX: no limit */
    uint32_t stop_at;          /* CC_AT_* */
    uint32_t pad;
} cc_until;

typedef struct cc_stop {
    int32_t kind;              /* CC_STOP_* */
    uint32_t detail;
    uint64_t instret;
    uint64_t vns;
} cc_stop;

typedef struct cc_stats {
    uint64_t instret;
    uint64_t vns;
    uint64_t exits;            /* port and MMIO accesses, halts, interrupts delivered: guest-visible, deterministic */
    uint64_t io_reads, io_writes, mmio_accesses, halts, interrupts, exceptions;
    /* host-side figures: depend on cache sizes, never part of the state */
    uint64_t blocks_decoded, insns_decoded, code_flushes, tlb_misses, tlb_flushes, smc_hits;
    uint64_t undefined_opcodes;   /* #UD raised for something not implemented (each has a line in the log) */
} cc_stats;

typedef struct cc_digest { uint64_t lo, hi; } cc_digest;

/* ---- page store: 4 KiB pages, reference counted, shared by the snapshots of any number of machines ----------- */
cc_store *cc_store_new(uint64_t budget_bytes);   /* 0: no limit */
void cc_store_free(cc_store *);                  /* after every machine and snapshot that uses it */
uint64_t cc_store_bytes(const cc_store *);       /* bytes held now: pages, tables and saved states */
uint64_t cc_store_lent_bytes(cc_store *);        /* of those: reserved for pages that are still in machines' RAM */
uint64_t cc_store_budget(const cc_store *);
void cc_store_set_budget(cc_store *, uint64_t budget_bytes);

/* ---- machines -------------------------------------------------------------------------------------------------- */
void cc_config_default(cc_config *);
/* On failure *out is NULL and err (of err_size bytes) holds the line. */
int cc_machine_new(const cc_config *, cc_store *, cc_machine **out, char *err, size_t err_size);
void cc_machine_free(cc_machine *);
const char *cc_error(const cc_machine *);
int cc_set_cache_sizes(cc_machine *, uint32_t tlb_bits, uint32_t code_cache_kib);

/* What the guest does to stop (console, hypercall, power-off, ...) is reported before limits reached at the same
 * boundary.  A limit in the past stops at once.  On an engine error the result is negative and the kind
 * CC_STOP_ERROR.  A cancel with no run in progress ends the next one. */
int cc_run(cc_machine *, const cc_until *, cc_stop *);
void cc_cancel(cc_machine *);                    /* from any thread: the run returns within about a millisecond */
uint64_t cc_instret(const cc_machine *);
uint64_t cc_vns(const cc_machine *);
uint64_t cc_tsc(const cc_machine *);
void cc_get_stats(const cc_machine *, cc_stats *);

void cc_get_regs(cc_machine *, cc_regs *);
int cc_set_regs(cc_machine *, const cc_regs *);
int cc_read_phys(cc_machine *, uint64_t gpa, void *dst, size_t size);
int cc_write_phys(cc_machine *, uint64_t gpa, const void *src, size_t size);
/* Through the current page tables, ignoring permissions and setting no accessed or dirty bits. */
int cc_read_virt(cc_machine *, uint64_t va, void *dst, size_t size);
int cc_write_virt(cc_machine *, uint64_t va, const void *src, size_t size);
int cc_translate(cc_machine *, uint64_t va, uint64_t *gpa);

/* ---- console ---------------------------------------------------------------------------------------------------- */
/* Bytes that the guest has transmitted since boot (part of the state), and the undrained ones.  Output lines are
 * dated: a mark gives the virtual time at which the byte at `offset` was sent, the first one of a line or of its being
 * written anew after a carriage return. */
typedef struct cc_console_mark { uint64_t offset; uint64_t vns; uint64_t instret; } cc_console_mark;
uint64_t cc_console_total(const cc_machine *);
size_t cc_console_take(cc_machine *, uint8_t *dst, size_t cap, uint64_t *first_offset);
size_t cc_console_take_marks(cc_machine *, cc_console_mark *dst, size_t cap);
/* Queue bytes for the UART's receiver; they arrive one character time apart.  Returns how many fitted. */
size_t cc_console_input(cc_machine *, const uint8_t *src, size_t size);
/* The literal byte string that CC_AT_CONSOLE looks for in output sent after this call; at most 255 bytes. */
int cc_console_pattern(cc_machine *, const uint8_t *pattern, size_t size);

/* ---- the machine's log: one line per noteworthy event (unimplemented opcode, unknown MSR, ...) ----------------- */
size_t cc_log_take(cc_machine *, char *dst, size_t cap);

/* ---- events: what happened in the machine, for whoever watches ------------------------------------------------------ */
/* A record is this header and `size` bytes of payload, padded with zeros to a multiple of 8.  The queue is no part of the
 * state: running over the same stretch again queues the same records again. */
typedef struct cc_event { uint64_t vns; uint64_t instret; uint32_t kind; uint32_t size; } cc_event;
#define CC_EVENT_SDK 1         /* an SDK request; payload: see sdk.c */
#define CC_EVENT_DISK 2        /* the disk did something out of the ordinary */
#define CC_EVENT_NET 3         /* the same of the network device */
#define CC_EVENT_POWER 4       /* started, paused, killed, reset */
#define CC_EVENT_AGENT 5       /* bytes from the guest agent */
#define CC_EVENT_END 6         /* it ended by itself; payload: CC_STOP_* and the detail, 32 bits each */
/* Whole records, oldest first; the bytes written.  *lost: records dropped since the last call because nobody took
 * any for long (the oldest are dropped). */
size_t cc_events_take(cc_machine *, uint8_t *dst, size_t cap, uint64_t *lost);

/* ---- the guest SDK (docs/guest-programs.md has the wire format) ---------------------------------------------------- */
/* One property of the guest, by (id, command): part of the state, so it is what it was at this moment. */
typedef struct cc_property {
    uint32_t id;
    uint8_t command;           /* 1 always, 2 sometimes, 3 reachable, 4 unreachable, 5 announced in the catalog */
    uint8_t pad[3];
    uint64_t passes, fails;    /* evaluations; a sometimes that was false counts as a fail and is none */
    uint64_t first_pass_vns, first_pass_instret;     /* CC_NO_TIME: never */
    uint64_t first_fail_vns, first_fail_instret;
    uint32_t text_at;          /* its message, as cc_properties_text() gives it */
    uint32_t text_size;
} cc_property;

/* The payload of a CC_EVENT_SDK record starts with this; the message and the JSON follow. */
typedef struct cc_sdk_event {
    uint8_t command, flags, status, transport;
    uint32_t id;
    uint64_t evaluations;      /* of this property, this one included */
    uint16_t message_size, json_size;
    uint32_t pad;
} cc_sdk_event;

/* Properties seen so far, in the order of their first mention: the number written, at most n, from `first` on. */
size_t cc_properties(const cc_machine *, size_t first, cc_property *dst, size_t n);
size_t cc_properties_text(const cc_machine *, uint32_t at, char *dst, size_t size);
/* Properties that found no room in the table; their events are queued all the same. */
uint64_t cc_properties_lost(const cc_machine *);
/* Whether the guest has said setup_complete (or the host in its place), and when; CC_NO_TIME: not yet. */
uint64_t cc_setup_vns(const cc_machine *);
void cc_force_setup_complete(cc_machine *);
/* Whether the guest has said that its coverage map at 0xE0000 (64 KiB) is in use. */
bool cc_coverage_active(const cc_machine *);

/* ---- the disk; sectors are of 512 bytes ------------------------------------------------------------------------------ */
/* What the guest would read, the newest writes included; what the host writes is there for good. */
uint64_t cc_disk_size(const cc_machine *);      /* bytes; 0: no disk */
int cc_disk_read(cc_machine *, uint64_t offset, void *dst, size_t size);
int cc_disk_write(cc_machine *, uint64_t offset, const void *src, size_t size);

#define CC_DISK_FULL_AT 1      /* writes that reach full_sector or beyond fail */
#define CC_DISK_FULL_AFTER 2   /* so does every write once full_bytes have been written */
#define CC_DISK_TORN_FAILS 4   /* a torn write is reported as an error; otherwise as done */
/* All zero: no faults.  Chances are per million requests; errors, tearing and flipped bits befall only requests that
 * touch [first_sector, first_sector + sectors), or any if sectors is 0.  A write that fails has no effect. */
typedef struct cc_disk_faults {
    uint32_t flags;                    /* CC_DISK_* above */
    uint32_t read_error_ppm, write_error_ppm;
    uint32_t torn_ppm;                 /* only the first blocks of a write reach the disk, a random number of them */
    uint32_t corrupt_read_ppm, corrupt_write_ppm;   /* one bit of the data is flipped on its way */
    uint32_t lost_flush_ppm;           /* a flush is reported as done and makes nothing durable */
    uint32_t spike_ppm;                /* a request takes spike_ns longer */
    uint32_t slow_milli;               /* time a request takes, in thousandths of the usual; 0: as usual */
    uint32_t pad;
    uint64_t spike_ns;
    uint64_t first_sector, sectors;
    uint64_t full_sector, full_bytes;
} cc_disk_faults;
int cc_disk_set_faults(cc_machine *, const cc_disk_faults *);
void cc_disk_get_faults(const cc_machine *, cc_disk_faults *);
/* Flip `bits` random bits in a range of sectors now, for good. */
int cc_disk_corrupt(cc_machine *, uint64_t sector, uint64_t sectors, uint32_t bits);

/* Power loss: what becomes of writes that no flush has followed.  Requests in flight have never reached the disk.
 * A block is of 4 KiB, at a multiple of that; what a write has in one is kept or lost as a whole, also when it tears. */
#define CC_CRASH_LOSE_ALL 0    /* all are lost */
#define CC_CRASH_RANDOM 1      /* each block of each write is kept or lost, by a fair coin of the seed's */
#define CC_CRASH_TORN 2        /* a random number of the oldest are kept, the next one up to a random block of it */
#define CC_CRASH_KEEP_ALL 3
int cc_disk_crash(cc_machine *, uint32_t mode, uint64_t seed);

typedef struct cc_disk_stats {
    uint64_t reads, writes, flushes, discards, errors, faults;   /* requests answered; faults that came into effect */
    uint64_t unflushed_writes, unflushed_sectors;                /* in the undo log now */
} cc_disk_stats;
void cc_disk_get_stats(const cc_machine *, cc_disk_stats *);

/* The payload of a CC_EVENT_DISK record. */
#define CC_DISK_READ_ERROR 1
#define CC_DISK_WRITE_ERROR 2
#define CC_DISK_TORN 3
#define CC_DISK_CORRUPT_READ 4
#define CC_DISK_CORRUPT_WRITE 5
#define CC_DISK_FULL 6
#define CC_DISK_LOST_FLUSH 7
#define CC_DISK_SPIKE 8
typedef struct cc_disk_event { uint32_t what; uint32_t sectors; uint64_t sector; } cc_disk_event;

/* ---- the other devices ------------------------------------------------------------------------------------------- */
/* Frames and bytes (without the virtio header) that the guest has sent and got; dropped: for want of room, of a running
 * driver or of a link. */
typedef struct cc_net_counters {
    uint64_t tx_frames, tx_bytes, tx_dropped, rx_frames, rx_bytes, rx_dropped;
} cc_net_counters;
void cc_net_get_counters(const cc_machine *, cc_net_counters *);
int cc_net_set_link(cc_machine *, bool up);      /* the guest's carrier; without it nothing passes */
/* Ask the guest for so many pages of 4 KiB; what it has given up is zero and may not be counted on. */
int cc_balloon_set(cc_machine *, uint32_t pages);
uint32_t cc_balloon_pages(const cc_machine *);    /* given up now */
/* Queue bytes for the guest agent (/dev/hvc0 in Linux); returns how many fitted.  Its answers are CC_EVENT_AGENT. */
size_t cc_agent_send(cc_machine *, const uint8_t *src, size_t size);

/* ---- coverage: branch edges that the soft CPU records (docs/coverage.md) ------------------------------------------- */
/* What is recorded, and the counters, are the host's: in no snapshot and no digest, and the guest cannot tell. */
#define CC_EDGES_KERNEL 1      /* code at privilege levels 0 to 2 */
#define CC_EDGES_USER 2        /* code at privilege level 3, a map per program */
#define CC_EDGES_BYTES 65536   /* counters of a map; they stay at 255 */
#define CC_EDGES_PROGRAMS_MAX 64
#define CC_TASK_NAME_BYTES 16  /* TASK_COMM_LEN (include/linux/sched.h), zero-padded */
/* Where a Linux guest says which program runs: physical RAM of the pointer to the current task, of the task by the
 * pointer (two ranges of virtual addresses that map RAM in order), and of the name in it. */
typedef struct cc_edges_guest {
    uint64_t current_gpa;
    uint64_t linear_base;      /* virtual address of physical 0 in the direct map */
    uint64_t image_base;       /* the same in the kernel's own mapping, which lies higher */
    uint32_t name_offset;
    uint32_t pad;
} cc_edges_guest;
/* Start, change or stop recording (0); counters stay.  guest NULL: all user code is one program without a name.  names:
 * `count` times CC_TASK_NAME_BYTES, the programs to record; count 0: all. */
int cc_edges_set(cc_machine *, uint32_t what, const cc_edges_guest *guest, const char *names, uint32_t count);
uint32_t cc_edges_maps(const cc_machine *);      /* 0 if nothing was ever recorded; otherwise the kernel's and programs' */
/* Map 0 is the kernel's; then programs in the order of their appearance.  Copies CC_EDGES_BYTES and the name. */
int cc_edges_read(cc_machine *, uint32_t map, char *name, uint8_t *dst);
void cc_edges_clear(cc_machine *);               /* counters to 0; programs are forgotten */

/* AFL's classes of counters: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128 and more, as one bit each. */
void cc_coverage_classify(const uint8_t *counters, uint8_t *bits, size_t size);
/* into |= bits; the number of bits that are new in it.  cells: of bytes that were 0. */
uint64_t cc_coverage_merge(uint8_t *into, const uint8_t *bits, size_t size, uint64_t *cells);
/* The same number without merging. */
uint64_t cc_coverage_new(const uint8_t *known, const uint8_t *bits, size_t size, uint64_t *cells);

/* ---- breakpoints and watchpoints of the host; soft CPU only ------------------------------------------------------------ */
/* They are in no snapshot and no digest, and the guest cannot tell.  What is met is logged while the machine runs, and a
 * run with CC_AT_WATCH stops at it.
 *
 * Execution is met before the instruction, once per arrival: not again when it is resumed with RF set, after a fault of
 * its own or between the iterations of REP.  An instruction that a stop was reported at, or that the machine stood at when
 * cc_watch_pass() was called, does not stop the run that begins there; it is logged when it is executed.
 * Accesses are met at the boundary after the instruction (each iteration of REP is one); those of instructions that fault
 * do not count.  What a device writes or reads at a time of its own is met at the first boundary later than that time. */
#define CC_WATCH_EXECUTE 1
#define CC_WATCH_WRITE 2
#define CC_WATCH_READ 4
#define CC_WATCH_SENT 8        /* a frame was given to the network device */
#define CC_WATCH_RECEIVED 16   /* a frame was put into the guest's memory */
#define CC_WATCH_PHYSICAL 1    /* flags: the address is a physical one */
#define CC_WATCH_OUTSIDE 2     /* execution everywhere but in the range */
#define CC_WATCH_USER 4        /* only at privilege level 3; not for devices */
#define CC_WATCHES_MAX 256
#define CC_WATCH_LOG_MAX 2048
#define CC_ANY_CR3 0xFFFFFFFFFFFFFFFF
#define CC_ANY_FRAME 0xFFFFFFFFFFFFFFFF
#define CC_ANY_PEER 0xFFFFFFFF
#define CC_NO_OFFSET 0xFFFFFFFF
#define CC_WATCH_CODE_MAX 32
typedef struct cc_watch {
    uint64_t address;          /* frames: the serial number, or CC_ANY_FRAME */
    uint64_t size;             /* bytes; frames: the offset in the frame that the hit tells the address of */
    uint64_t cr3;              /* only under these page tables (bits 0 to 11 do not matter); CC_ANY_CR3 */
    uint64_t rsp_min;          /* only while RSP is at least this; not for devices */
    uint32_t kinds;            /* CC_WATCH_EXECUTE, _WRITE, _READ together, or _SENT, _RECEIVED */
    uint32_t flags;
    uint32_t peer;             /* frames: the other machine, or CC_ANY_PEER */
    uint32_t code_bytes;       /* execution: only where the instruction and what follows it in its page are ... */
    uint8_t code[32];          /* ... these */
} cc_watch;

#define CC_BY_INSTRUCTION 0
#define CC_BY_CPU 1            /* the CPU itself: stack frames of interrupts, descriptor tables */
#define CC_BY_WALK 2           /* accessed and dirty bits that a data access set in page tables; only writes are met */
#define CC_BY_DEVICE 3
#define CC_DEVICE_SDK 32       /* the answer in the page of an SDK request */
#define CC_DEVICE_RESTART 33   /* a machine started again, with the memory that it was loaded with */
#define CC_HIT_AFTER_INTERRUPT 1   /* execution: an interrupt led there at this very moment; a run to the moment ends before it */
#define CC_HIT_FRAME 2         /* serial and peer are those of a frame */
typedef struct cc_watch_hit {
    uint64_t instret, vns;     /* the moment: of execution before it, of all else the first one after it */
    uint64_t rip;              /* of the instruction; CC_BY_CPU: of the one interrupted, or 0; CC_BY_DEVICE: 0 */
    uint64_t address;          /* the first watched byte touched, as the watch names it */
    uint64_t gpa;              /* where that is in physical memory */
    uint64_t va;               /* where the access begins; devices: physical */
    uint64_t cr3, rsp;         /* at the moment */
    uint64_t value[2];         /* the first 16 bytes of what was read or written */
    uint64_t serial;           /* of a frame, its sender's count */
    uint32_t watch;            /* its place in the list */
    uint32_t kind;             /* one of CC_WATCH_* */
    uint32_t who;              /* CC_BY_* */
    uint32_t size;             /* of the access, or frame */
    uint32_t device;           /* CC_BY_DEVICE: bit number in CC_DEV_*, or CC_DEVICE_* */
    uint32_t peer;             /* a received frame's sender, a sent one's receiver; CC_ANY_PEER: to all */
    uint32_t frame_offset;     /* where in the frame the byte at gpa is; CC_NO_OFFSET */
    uint32_t flags;            /* CC_HIT_* */
    uint32_t cpl;
    uint32_t pad;
} cc_watch_hit;
/* Replaces the list; 0 watches: nothing is watched, at no cost.  The log is emptied. */
int cc_watches_set(cc_machine *, const cc_watch *list, uint32_t count);
/* What was met since the last call, in order, at most CC_WATCH_LOG_MAX: if there is more, the oldest and the newest, and
 * *lost says how many between them are missing. */
size_t cc_watch_take(cc_machine *, cc_watch_hit *dst, uint64_t *lost);
/* What the last CC_STOP_WATCH was for; CC_EINVAL if there was none. */
int cc_watch_hit_get(const cc_machine *, cc_watch_hit *out);
void cc_watch_pass(cc_machine *);

/* ---- snapshots, digests ------------------------------------------------------------------------------------------ */
int cc_snapshot_take(cc_machine *, cc_snapshot **out);
int cc_snapshot_restore(cc_machine *, cc_snapshot *);   /* the machine has the snapshot's configuration */
void cc_snapshot_free(cc_snapshot *);
uint64_t cc_snapshot_instret(const cc_snapshot *);
uint64_t cc_snapshot_vns(const cc_snapshot *);
uint64_t cc_snapshot_exclusive_bytes(const cc_snapshot *);  /* what freeing it would give back */
uint64_t cc_dirty_pages(cc_machine *);                  /* pages written since the last snapshot or restore */
void cc_digest_now(cc_machine *, cc_digest *);
void cc_snapshot_digest(const cc_snapshot *, cc_digest *);
/* Digest of the parts, to name what differs: registers, devices (index 0 ..), pages (by page number). */
void cc_digest_page(cc_machine *, uint64_t page, cc_digest *);
void cc_digest_cpu(cc_machine *, cc_digest *);
void cc_digest_devices(cc_machine *, cc_digest *);
/* Pages are those of the memory, then those of the areas in which devices keep what is large. */
#define CC_AREA_MEMORY 0
#define CC_AREA_PROPERTIES 1   /* the guest's properties and their counts */
#define CC_AREA_NETWORK 2      /* packets on their way in and out */
#define CC_AREA_DISK_CACHE 3   /* writes that no flush has followed */
#define CC_AREA_DISK 4         /* the disk without them */
uint64_t cc_page_count(const cc_machine *);
int cc_page_area(const cc_machine *, uint64_t page, uint64_t *at);   /* and its number there; CC_EINVAL: no such page */
int cc_page_bytes(cc_machine *, uint64_t page, uint8_t *dst);        /* 4096 bytes */
void cc_digest_pages(cc_machine *, cc_digest *out);                  /* of every page, as cc_digest_page() */
/* Sums over all pages, kept up to date with the digest and no part of it.  The difference of two states' sums tells which
 * pages differ, all of them if they are few, some if they are many: docs/recording-format.md says how. */
#define CC_SKETCH_TABLES 3
#define CC_SKETCH_LEVELS 12
typedef struct cc_sketch { uint32_t sum[72]; } cc_sketch;  /* [table][level][2] */
void cc_sketch_now(cc_machine *, cc_sketch *);
/* Of any bytes: fast, to find damage, not cryptographic. */
void cc_hash(const void *data, uint64_t size, cc_digest *);

/* ---- faults of one machine; what they set is part of its state ----------------------------------------------------- */
/* While paused, time passes and nothing is executed; timers that became due fire when it is resumed. */
int cc_pause(cc_machine *, bool paused);
/* Power loss: the machine stops with CC_STOP_POWER_OFF until it is rebooted, also one that had ended by itself.  Memory
 * and devices keep what they hold; so does the disk, until cc_disk_crash() says what of it survives. */
int cc_power_off(cc_machine *);
/* Start again at virtual time vns (or now, if that is later): memory and CPU as in `boot`, which was taken of this machine
 * or an equal one after its guest was loaded; devices reset.  Disk, clock chip, the guest's properties, counters, console
 * position and the faults below stay; packets on their way to it are lost. */
int cc_reboot(cc_machine *, const cc_snapshot *boot, uint64_t vns);
/* Each instruction takes `factor` times as long, 1 to 1000; 1: normal. */
int cc_set_slowdown(cc_machine *, uint32_t factor);
/* The TSC runs faster or slower by that many parts in a million, -900000 to 9000000; it never jumps.  Soft CPU only. */
int cc_set_tsc_skew(cc_machine *, int64_t ppm);
/* The clock chip shows so many ns more (or, if negative, less) from now on; at most 10^16 either way. */
int cc_shift_rtc(cc_machine *, int64_t ns);
/* Each timer interrupt (PIT) comes late by a random 0 to max_ns, at most a second; 0: off. */
int cc_set_timer_jitter(cc_machine *, uint64_t max_ns);
/* A request on an interrupt line, 0 to 15, that stays until it is acknowledged; a non-maskable interrupt. */
int cc_inject_irq(cc_machine *, uint32_t irq);
int cc_inject_nmi(cc_machine *);
#define CC_POWER_PAUSED 1      /* the payload of a CC_EVENT_POWER record: 32 bits, one of these */
#define CC_POWER_RESUMED 2
#define CC_POWER_OFF 3
#define CC_POWER_RESTARTED 4
bool cc_paused(const cc_machine *);
uint32_t cc_slowdown(const cc_machine *);
int64_t cc_tsc_skew(const cc_machine *);
uint64_t cc_timer_jitter(const cc_machine *);
/* Another future from here on: the machine's random streams (entropy device, disk faults, SDK, timer jitter) start anew,
 * by this number. */
void cc_reseed(cc_machine *, uint64_t branch);

bool cc_has_network(const cc_machine *);         /* whether it has a network device */

/* ---- clusters: machines that advance together, and the network between them ---------------------------------------- */
#define CC_CLUSTER_MACHINES_MAX 256
typedef struct cc_cluster cc_cluster;

/* One direction of the link between two machines.  Delays at most 10^16; probabilities in parts per million. */
typedef struct cc_link_params {
    uint64_t latency_ns;       /* from a frame's last bit sent to its arrival; 50000 by default */
    uint64_t jitter_ns;        /* a further random delay, 0 to this; order is kept */
    uint64_t bandwidth_bps;    /* bits per second, 8 to 10^13; 0 (default): unlimited */
    uint64_t queue_bytes;      /* what may wait for the transmitter; a frame that finds no room is lost */
    uint64_t reorder_ns;       /* frames chosen for reordering are late by a random 1 to this */
    uint32_t reorder_ppm, loss_ppm, duplicate_ppm, corrupt_ppm;
    uint32_t down;             /* 1: nothing passes */
    uint32_t pad;
} cc_link_params;

/* Frames of one direction: sent + duplicated = delivered + all the lost ones. */
typedef struct cc_link_counters {
    uint64_t sent, sent_bytes, delivered, delivered_bytes;
    uint64_t lost_down, lost_random, lost_queue;
    uint64_t lost_receiver;    /* it was off, or had thousands waiting already */
    uint64_t duplicated, corrupted, reordered;
} cc_link_counters;

/* Frames that a machine sent and that no link took. */
typedef struct cc_port_counters {
    uint64_t unknown;          /* to an address that no machine has, or its own */
    uint64_t runts;            /* shorter than an Ethernet header */
} cc_port_counters;

#define CC_AT_END 65536        /* stop_at of a cluster's run: a machine ended */

typedef struct cc_cluster_until {
    uint64_t vns;              /* absolute; UINT64_MAX: none, and CC_STOP_HALTED when nothing can happen any more */
    uint64_t instret;          /* of `machine`, absolute; UINT64_MAX: no limit */
    int32_t machine;           /* stop for this one, and exactly where it did; -1: for any, at the end of that tick */
    uint32_t stop_at;          /* CC_AT_* */
} cc_cluster_until;

typedef struct cc_cluster_stop {
    int32_t kind;              /* CC_STOP_VNS: the horizon; CC_STOP_NONE: not there yet, call again; else what happened */
    int32_t machine;           /* where, or -1 */
    uint32_t detail;
    uint32_t pad;
    uint64_t instret, vns;     /* the moment at which it happened */
} cc_cluster_stop;

/* The machines stay the caller's, and must be freed after the cluster.  All are at virtual time 0. */
int cc_cluster_new(cc_machine *const *machines, uint32_t n, uint64_t quantum_ns, uint64_t seed, uint32_t threads,
                   cc_cluster **out, char *err, size_t err_size);
void cc_cluster_free(cc_cluster *);
const char *cc_cluster_error(const cc_cluster *);
/* Run all machines to the horizon; those that have ended or are past it stay where they are.  The first event asked for
 * ends it.  Comes back with CC_STOP_NONE every now and then, at the end of a tick; the guests cannot tell. */
int cc_cluster_run(cc_cluster *, const cc_cluster_until *, cc_cluster_stop *);
void cc_cluster_cancel(cc_cluster *);            /* from any thread: ends the run in progress, or the next one */
uint64_t cc_cluster_vns(const cc_cluster *);
/* Why machine i stopped last: CC_STOP_VNS or the reason why it ended. */
void cc_cluster_stop_of(const cc_cluster *, uint32_t i, cc_stop *);
void cc_cluster_digest(cc_cluster *, cc_digest *);
/* Digest of what is not in the machines: time and network. */
void cc_cluster_digest_network(const cc_cluster *, cc_digest *);
/* The state besides the machines': a block of cc_cluster_state_size() bytes. */
size_t cc_cluster_state_size(const cc_cluster *);
void cc_cluster_state_save(const cc_cluster *, uint8_t *dst);
int cc_cluster_state_load(cc_cluster *, const uint8_t *src, size_t size);
void cc_cluster_reseed(cc_cluster *, uint64_t branch);   /* the network's streams; see cc_reseed() for machines */

void cc_link_params_default(cc_link_params *);
/* Of frames sent from now on. */
int cc_link_set(cc_cluster *, uint32_t src, uint32_t dst, const cc_link_params *);
int cc_link_get(cc_cluster *, uint32_t src, uint32_t dst, cc_link_params *);
int cc_link_count(cc_cluster *, uint32_t src, uint32_t dst, cc_link_counters *);
int cc_port_count(cc_cluster *, uint32_t i, cc_port_counters *);

#define CC_FRAME_BYTES_MAX 1518    /* Ethernet header, 1500 bytes, one VLAN tag; no checksum */

/* A capture of what the links did: records of this header and `size` bytes of frame, padded to a multiple of 8. */
typedef struct cc_tap_record {
    uint64_t switched_vns;             /* when it was decided: the end of the tick in which it was sent, as a rule */
    uint64_t sent_vns, arrival_vns;    /* arrival 0: lost */
    uint64_t serial;                   /* of its sender: the copies of one frame have the same */
    uint32_t src, dst;
    uint32_t size;
    uint32_t fate;                     /* CC_TAP_* */
} cc_tap_record;
#define CC_TAP_DELIVERED 1
#define CC_TAP_LOST_DOWN 2
#define CC_TAP_LOST_RANDOM 4
#define CC_TAP_LOST_QUEUE 8
#define CC_TAP_LOST_RECEIVER 16
#define CC_TAP_CORRUPTED 32
#define CC_TAP_REORDERED 64
#define CC_TAP_DUPLICATE 128
/* Of edits, dated with the edit in switched_vns and sent_vns: a copy was taken from its way, as it was, with the arrival
 * that it would have had; one that takes its place, or goes beside it (CC_TAP_DUPLICATE), was put there. */
#define CC_TAP_TAKEN 256
#define CC_TAP_EDITED 512
/* Keep up to that many bytes of records that nobody has taken; 0 (default): off. */
void cc_tap_set(cc_cluster *, size_t bytes_max);
size_t cc_tap_take(cc_cluster *, uint8_t *dst, size_t cap, uint64_t *lost);

/* A copy of a frame on its way to a machine.  Named by its first four fields. */
typedef struct cc_flight {
    uint64_t serial;                   /* of its sender */
    uint32_t src, dst;
    uint32_t copy;                     /* of those of this frame on their way to dst, from 0 in the order of queueing */
    uint32_t size;
    uint64_t arrival_vns;
    uint32_t foreseen;                 /* 1: it was sent in this tick, and this is what will become of it at its end */
    uint32_t pad;
} cc_flight;
/* A list of them, each followed by its bytes, padded to a multiple of 8: those that dst has room for, and in *size what
 * all of them take. */
int cc_flights(cc_cluster *, uint8_t *dst, size_t cap, size_t *size);
/* Change one.  CC_EINVAL, and nothing is changed, if it is not on its way, is only foreseen, or would arrive before the
 * cluster's time.  The links' counters know nothing of edits. */
int cc_flight_drop(cc_cluster *, const cc_flight *name);
int cc_flight_move(cc_cluster *, const cc_flight *name, uint64_t arrival_vns);
int cc_flight_copy(cc_cluster *, const cc_flight *name, uint64_t arrival_vns);     /* it arrives then as well */
int cc_flight_write(cc_cluster *, const cc_flight *name, const uint8_t *data, uint32_t size);    /* size: as it is */

/* ---- boot -------------------------------------------------------------------------------------------------------- */
/* Set the state in which a 64-bit Linux entry point (or a flat guest) is started: long mode, CPL 0, the first
 * 4 GiB identity-mapped by page tables at `tables_gpa` (6 pages), GDT at 0x500, IF = 0. */
int cc_enter_long_mode(cc_machine *, uint64_t entry, uint64_t rsi, uint64_t rsp, uint64_t tables_gpa);

/* ---- facts about this host and build --------------------------------------------------------------------------- */
const char *cc_version(void);
/* 0 if the KVM device (NULL: /dev/kvm) can be used; otherwise CC_ENOTSUP and one line in msg. */
int cc_kvm_probe(const char *device, char *msg, size_t msg_size);
/* Length of the instruction at code (at most 15 bytes are looked at), 0 if undefined or incomplete: the soft
 * CPU's decoder, for tests against other decoders. */
uint32_t cc_decode_length(const uint8_t *code, uint32_t size);
/* The same for every `stride`-th byte of code; each instruction may use all the bytes that follow. */
void cc_decode_lengths(const uint8_t *code, uint32_t size, uint32_t stride, uint8_t *lengths);

/* [cdef-end] */
#endif
