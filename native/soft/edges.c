/*
 * soft/edges.c: branch edges, counted on the host while the guest runs.
 *
 * An edge is (end of the branch instruction, where it went), of conditional branches both ways and of computed jumps and
 * calls.  What always goes the same way, and returns, say nothing that these do not.  There is no state between edges, so
 * the counters depend on the instructions retired alone: not on how a run is sliced, on cache sizes, on block
 * boundaries, nor on what ran before.
 *
 * Counters belong to the host: they are in no snapshot, and going back in time leaves them.
 */
#include "exec.h"

#include <stdlib.h>

#define MAPS (2 + CC_EDGES_PROGRAMS_MAX)      /* the kernel's, one per program, one for what nobody asked for */
#define MAP_SINK (MAPS - 1)
#define PROGRAM_OTHERS (CC_EDGES_PROGRAMS_MAX - 1)     /* shared by those that found no map of their own */

struct name { char text[CC_TASK_NAME_BYTES]; };

struct cc_edges {
    uint8_t map[MAPS][CC_EDGES_BYTES];
    bool linux_guest;
    cc_edges_guest guest;
    uint32_t nchosen, nprograms;
    struct name chosen[CC_EDGES_PROGRAMS_MAX], program[CC_EDGES_PROGRAMS_MAX];
    struct name now;             /* whose code edge_user counts, as its task has it */
};

/* Multiplicative hashing (Knuth, The Art of Computer Programming, vol. 3, 6.4): the top bits are the well-mixed ones. */
static inline uint32_t edge_index(uint64_t from, uint64_t to)
{
    return (uint32_t)((((from * 0x9e3779b97f4a7c15ull) ^ to) * 0xd1342543de82ef95ull) >> 48);
}

static inline void count(uint8_t *counter)
{
    /* Busy counters are full: then nothing is written, and no later load waits for a store. */
    if (*counter != 255)
        ++*counter;
}

static CC_OP(count_kernel)
{
    const cc_pad_op *p = (const cc_pad_op *)op;
    count(p->counter);
    op = p->to;
    CC_DISPATCH(op);
}

static CC_OP(count_user)
{
    const cc_pad_op *p = (const cc_pad_op *)op;
    count(cpu->edge_user + p->index);
    op = p->to;
    CC_DISPATCH(op);
}

void cc_edge_count(cc_cpu *cpu, const cc_op *op, uint64_t pc)
{
    uint8_t *map = cpu->cpl == 3 ? cpu->edge_user : cpu->edge_maps->map[0];
    count(&map[edge_index(cc_op_next_pc(cpu, op), pc)]);
}

void cc_edge_pad_set(cc_cpu *cpu, cc_block *pad, const cc_block *to, const cc_op *op, uint64_t pc)
{
    const uint32_t index = edge_index(cc_op_next_pc(cpu, op), pc);
    cc_pad_op *p = (cc_pad_op *)pad->ops;
    memset(pad, 0, sizeof *pad);
    pad->vbase = to->vbase;
    pad->n = to->n;
    pad->off = to->off;
    pad->user = to->user;
    p->fn = to->user ? count_user : count_kernel;
    if (to->user)
        p->index = index;
    else
        p->counter = &cpu->edge_maps->map[0][index];
    p->to = to->ops;
}

void cc_edge_pad_count(cc_cpu *cpu, const cc_block *pad)
{
    const cc_pad_op *p = (const cc_pad_op *)pad->ops;
    count(pad->user ? cpu->edge_user + p->index : p->counter);
}

/* ---- whose code it is --------------------------------------------------------------------------------------------- */
/* The current task's name, all zeros if it cannot be told. */
static struct name task_name(const cc_cpu *cpu)
{
    const struct cc_edges *e = cpu->edge_maps;
    const cc_machine *m = cpu->m;
    struct name n = {{0}};
    uint64_t task;
    if (!e->linux_guest || !cc_in_ram(m, e->guest.current_gpa, sizeof task))
        return n;
    memcpy(&task, m->ram + e->guest.current_gpa, sizeof task);
    const uint64_t at = task - (task >= e->guest.image_base ? e->guest.image_base : e->guest.linear_base) +
                        e->guest.name_offset;
    if (cc_in_ram(m, at, sizeof n))
        memcpy(&n, m->ram + at, sizeof n);
    return n;
}

static struct name terminated(struct name n)
{
    const size_t size = strnlen(n.text, sizeof n.text - 1);
    memset(n.text + size, 0, sizeof n.text - size);
    return n;
}

static bool same(const struct name *a, const struct name *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static uint8_t *map_of(struct cc_edges *e, const struct name *n)
{
    bool wanted = !e->nchosen;
    for (uint32_t i = 0; i < e->nchosen && !wanted; i++)
        wanted = same(&e->chosen[i], n);
    if (!wanted)
        return e->map[MAP_SINK];
    uint32_t i = 0;
    while (i < e->nprograms && !same(&e->program[i], n))
        i++;
    if (i == e->nprograms) {
        if (i >= PROGRAM_OTHERS) {
            i = PROGRAM_OTHERS;
            e->program[i] = (struct name){"(others)"};
        } else {
            e->program[i] = *n;
        }
        e->nprograms = i + 1;
    }
    return e->map[1 + i];
}

static void find_program(cc_cpu *cpu)
{
    struct cc_edges *e = cpu->edge_maps;
    const struct name n = terminated(e->now);
    cpu->edge_user = map_of(e, &n);
}

/* The name changes in the kernel only, so what is found here holds until the next return to user code. */
void cc_edges_enter_user(cc_cpu *cpu)
{
    if (!(cpu->edges & CC_EDGES_USER))
        return;
    struct cc_edges *e = cpu->edge_maps;
    const struct name n = task_name(cpu);
    if (cc_likely(same(&n, &e->now)) && cpu->edge_user != NULL)
        return;
    e->now = n;
    find_program(cpu);
}

/* After choices or programs have changed. */
static void look_again(cc_cpu *cpu)
{
    cpu->edge_user = NULL;
    if (cpu->cpl == 3)
        cc_edges_enter_user(cpu);
}

/* ---- the host's side -------------------------------------------------------------------------------------------------- */
void cc_edges_free(cc_cpu *cpu)
{
    free(cpu->edge_maps);
}

static cc_cpu *soft_cpu(const cc_machine *m)
{
    return m->ops == &cc_soft_vcpu ? m->vcpu : NULL;
}

int cc_edges_set(cc_machine *m, uint32_t what, const cc_edges_guest *guest, const char *names, uint32_t n)
{
    cc_cpu *cpu = soft_cpu(m);
    if (!cpu)
        return cc_fail(m, CC_ENOTSUP, "branch edges are recorded by the soft vCPU only: start the machine on it");
    if (what & ~(uint32_t)(CC_EDGES_KERNEL | CC_EDGES_USER))
        return cc_fail(m, CC_EINVAL, "edges: 0x%x has bits other than kernel (1) and user (2)", what);
    if (n > CC_EDGES_PROGRAMS_MAX)
        return cc_fail(m, CC_EINVAL, "edges of %u programs: at most %d can be chosen", n, CC_EDGES_PROGRAMS_MAX);
    struct cc_edges *e = cpu->edge_maps;
    if (!e && !what)
        return CC_OK;
    /* Pages of maps that are never used are never touched. */
    if (!e && !(e = cpu->edge_maps = calloc(1, sizeof *e)))
        return cc_fail(m, CC_ENOMEM, "no memory for the maps of branch edges");
    if (cpu->edges != what)
        cc_code_flush(cpu);
    cpu->edges = (uint8_t)what;
    e->linux_guest = guest != NULL;
    if (guest)
        e->guest = *guest;
    e->nchosen = n;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(&e->chosen[i], names + (size_t)i * CC_TASK_NAME_BYTES, CC_TASK_NAME_BYTES);
        e->chosen[i] = terminated(e->chosen[i]);
    }
    look_again(cpu);
    return CC_OK;
}

uint32_t cc_edges_maps(const cc_machine *m)
{
    const cc_cpu *cpu = soft_cpu(m);
    return cpu && cpu->edge_maps ? 1 + cpu->edge_maps->nprograms : 0;
}

int cc_edges_read(cc_machine *m, uint32_t map, char *name, uint8_t *dst)
{
    if (map >= cc_edges_maps(m))
        return cc_fail(m, CC_EINVAL, "there is no edge map %u: there are %u", map, cc_edges_maps(m));
    const struct cc_edges *e = soft_cpu(m)->edge_maps;
    memset(name, 0, CC_TASK_NAME_BYTES);
    if (map)
        memcpy(name, e->program[map - 1].text, CC_TASK_NAME_BYTES);
    memcpy(dst, e->map[map], CC_EDGES_BYTES);
    return CC_OK;
}

void cc_edges_clear(cc_machine *m)
{
    cc_cpu *cpu = soft_cpu(m);
    const uint32_t maps = cc_edges_maps(m);
    if (!maps)
        return;
    for (uint32_t i = 0; i < maps; i++)
        memset(cpu->edge_maps->map[i], 0, CC_EDGES_BYTES);
    cpu->edge_maps->nprograms = 0;
    look_again(cpu);
}
