/*
 * soft/sse.h: what the SSE and MMX handler files share: opcode keys, the shape of an operation, operand access, the
 * macros that make handlers from operations, and the slow path.  Internal to soft/sse*.c and soft/mmx*.c.
 *
 * An operation (k_name) computes a destination value from the old destination and the source, both in host vector
 * registers, and touches nothing else, except that emulated floating-point ones or their exceptions into cpu->mxcsr.
 * Macros wrap it into fast handlers, straight-line code that ends in a tail call: r_name for register sources, m_name
 * for memory, b_name for memory addressed by base and displacement only; and into slow twins (rs_name, ms_name), to
 * which the fast ones jump when the vector unit is disabled, the TLB misses, the address is misaligned or an SIMD
 * exception is unmasked.  Slow twins have no addressable locals of their own, or the compiler could not tail-call.
 *
 * Whole XMM registers are loaded and stored even where an instruction changes a part: a narrow store followed by the
 * next handler's wide load would defeat the host's store forwarding.
 *
 * Floating-point results are those of the host's own legacy SSE2 instruction, written as volatile assembly with the
 * guest's destination as the first operand, so that no compiler folds, reorders or commutes it: NaN selection,
 * denormals and sticky flags are then exact.  Anything newer than SSE2 is built from SSE2, so every x86-64 host gives
 * one result.
 */
#ifndef CC_SOFT_SSE_H
#define CC_SOFT_SSE_H

#include "cpu.h"

#include <emmintrin.h>

#define CC_UNUSED __attribute__((unused))
#define CC_COLD __attribute__((noinline, cold))

/* ---- opcodes: map, mandatory prefix (F2 and F3 win over 66), opcode -------------------------------------------- */
enum { SSE_NP, SSE_66, SSE_F3, SSE_F2 };
#define SSE_KEY(map, prefix, opcode) ((map) << 10 | (prefix) << 8 | (opcode))

/* Each returns the handler, or NULL if the opcode is none of its own or the form is undefined. */
cc_opfn cc_sse_select_move(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_lane(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_int(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_fp(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_cvt(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_fp4(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_approx(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_sse_select_str(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_mmx_select(const cc_dec *d, const cc_op *op, unsigned key);
cc_opfn cc_mmx_select_cvt(const cc_dec *d, const cc_op *op, unsigned key);

/* ---- MXCSR (SDM vol. 1, 10.2.3) -------------------------------------------------------------------------------- */
#define MX_IE 0x01u
#define MX_DE 0x02u
#define MX_ZE 0x04u
#define MX_OE 0x08u
#define MX_UE 0x10u
#define MX_PE 0x20u
#define MX_FLAGS 0x3fu
#define MX_PRE (MX_IE | MX_DE | MX_ZE)   /* detected before the operation */
#define MX_DAZ 0x40u
#define MX_MASKS 0x1f80u
#define MX_OM 0x0400u
#define MX_UM 0x0800u
#define MX_RC 0x6000u
#define MX_RC_DOWN 0x2000u
#define MX_RC_UP 0x4000u
#define MX_FTZ 0x8000u
#define MX_VALID 0xffffu

/* ---- operations ------------------------------------------------------------------------------------------------ */
typedef __m128i cc_sse_fn(cc_cpu *cpu, const cc_op *op, __m128i d, __m128i s);
#define SSE_FN(name)                                                                                                   \
    static inline CC_UNUSED __m128i k_##name(cc_cpu *cpu CC_UNUSED, const cc_op *op CC_UNUSED, __m128i d CC_UNUSED,    \
                                             __m128i s CC_UNUSED)
/* An operation that is one expression in d and s. */
#define SSE_EXPR(name, expr) SSE_FN(name) { return (expr); }
/* An operation that is one host instruction; as this is floating point, the order of operands matters. */
#define SSE_ASM(name, text)                                                                                            \
    SSE_FN(name)                                                                                                       \
    {                                                                                                                  \
        __asm__ volatile(text " %1, %0" : "+x"(d) : "x"(s));                                                           \
        return d;                                                                                                      \
    }

static inline unsigned sse_imm(const cc_op *op) { return (unsigned)op->imm & 0xff; }

/* What the slow path must know of an instruction: source bytes, and the bits below. */
#define SSE_SIZE(spec) ((spec) & 0x1fu)
#define SSE_MEM 0x20u           /* the source is memory */
#define SSE_ALIGN 0x40u         /* ... which must be 16-byte aligned */
#define SSE_SRC_GPR 0x80u       /* register form: the source is a general register */
#define SSE_SRC_MM 0x100u       /* register form: the source is an MMX register */
#define SSE_DST_GPR 0x200u      /* the low 64 bits of the result go to a general register */
#define SSE_DST_FLAGS 0x400u    /* the result is the arithmetic flags */
#define SSE_DST_MM 0x800u       /* the low 64 bits of the result go to an MMX register */
#define SSE_MMX 0x1000u         /* the x87 to MMX transition takes place */
#define SSE_FP 0x2000u          /* SIMD floating-point exceptions are possible */
/* What underflow and overflow depend on: the lanes' number and format (of the result), and the operation. */
#define SSE_SS 0x10000u
#define SSE_SD 0x20000u
#define SSE_PS 0x30000u
#define SSE_PD 0x40000u
#define SSE_LANES 0x70000u
#define SSE_OP_ADD 0x080000u
#define SSE_OP_SUB 0x100000u
#define SSE_OP_ADDSUB 0x180000u
#define SSE_OP_MUL 0x200000u
#define SSE_OP_DIV 0x280000u
#define SSE_OP_CVT 0x300000u    /* double to single */
#define SSE_OP 0x380000u
#define SSE_STAGED 0x400000u    /* the operation reports its stages' exceptions by cc_sse_stage() */

/* Execute an instruction completely: operands, exceptions, result.  false: an exception was recorded, nothing was
 * changed.  The caller has checked that the vector unit is enabled. */
bool cc_sse_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, cc_sse_fn *fn, unsigned spec);
/* With underflow or overflow unmasked: the exact flags of an operation for which the host reported `flags`
 * (sse_range.c). */
uint32_t cc_sse_range_flags(uint32_t flags, unsigned spec, uint32_t mxcsr, __m128i d, __m128i s);
/* One stage of an operation whose operands are not lane by lane, or which has several, each with exceptions of its own,
 * while some are unmasked.  true: an unmasked one occurred, the stages that follow do not take place. */
bool cc_sse_stage(cc_cpu *cpu, unsigned spec, __m128i d, __m128i s);
/* false: #GP(0) was recorded because va is not 16-byte aligned. */
bool cc_sse_aligned(cc_cpu *cpu, uint64_t va);
/* MASKMOVDQU and MASKMOVQ: store those of size bytes of data whose mask bit is set at DS:rDI. */
bool cc_sse_masked_store(cc_cpu *cpu, const cc_op *op, int64_t budget, const uint8_t *data, unsigned mask,
                         unsigned size);

/* ---- operand access -------------------------------------------------------------------------------------------- */
static inline __m128i sse_get(const cc_cpu *cpu, unsigned i) { return _mm_load_si128((const __m128i *)&cpu->xmm[i]); }
static inline void sse_put(cc_cpu *cpu, unsigned i, __m128i v) { _mm_store_si128((__m128i *)&cpu->xmm[i], v); }
static inline __m128i sse_of(const cc_xmm *v) { return _mm_load_si128((const __m128i *)v); }
static inline cc_xmm sse_split(__m128i v)
{
    cc_xmm x;
    _mm_store_si128((__m128i *)&x, v);
    return x;
}
static inline __m128i sse_q(uint64_t lo) { return _mm_cvtsi64_si128((long long)lo); }
static inline __m128i sse_qq(uint64_t lo, uint64_t hi) { return _mm_unpacklo_epi64(sse_q(lo), sse_q(hi)); }
static inline uint64_t sse_low(__m128i v) { return (uint64_t)_mm_cvtsi128_si64(v); }

static inline __m128i sse_load(const void *p, unsigned size)
{
    uint64_t q = 0;
    if (size == 16)
        return _mm_loadu_si128((const __m128i *)p);
    memcpy(&q, p, size);
    return sse_q(q);
}

/* Does the access hit TLB entry e?  An aligned one treats a misaligned address as a miss. */
#define SSE_HIT(e, tag, va, size, align)                                                                               \
    ((align) ? cc_likely((e)->tag == ((va) & ~(uint64_t)0xff0)) : CC_TLB_HIT(e, tag, va, size))

/* The most frequent kind of address, which has handlers of its own: base and displacement. */
#define SSE_EA_BASE (cpu->r[op->b] + (uint64_t)(int64_t)op->disp)
static inline bool sse_base_only(const cc_op *op)
{
    return op->x == CC_R_ZERO && !(op->ss & CC_SS_A32) && !CC_SS_SEG(op->ss);
}

/* ---- handlers from operations ---------------------------------------------------------------------------------- */
static inline bool sse_fp_ready(const cc_cpu *cpu) { return cpu->sse_ok && !cpu->mxcsr_unmasked; }

#define SSE_TWIN(handler, fn, spec)                                                                                    \
    static CC_COLD CC_OP(handler)                                                                                      \
    {                                                                                                                  \
        if (!cpu->sse_ok)                                                                                              \
            return cc_op_sse_unavailable(cpu, op, budget);                                                             \
        if (!cc_sse_slow(cpu, op, budget, fn, spec))                                                                   \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }

/* Fast handlers: `statement` does it all, with the memory operand in s.  unready: something that the slow twin has to
 * look at. */
#define SSE_R_FAST(name, unready, slow, statement)                                                                     \
    static CC_OP(r_##name)                                                                                             \
    {                                                                                                                  \
        if (cc_unlikely(unready))                                                                                      \
            return slow(cpu, op, budget);                                                                              \
        statement;                                                                                                     \
        CC_NEXT();                                                                                                     \
    }
#define SSE_LOAD_FAST(handler, name, unready, ea, size, align, statement)                                              \
    static CC_OP(handler)                                                                                              \
    {                                                                                                                  \
        if (cc_unlikely(unready))                                                                                      \
            return ms_##name(cpu, op, budget);                                                                         \
        uint64_t va = ea;                                                                                              \
        const cc_tlbe *e = cc_tlb_entry(cpu, va);                                                                      \
        if (!SSE_HIT(e, rtag, va, size, align))                                                                        \
            return ms_##name(cpu, op, budget);                                                                         \
        __m128i s = sse_load((const void *)(va + e->addend), size);                                                    \
        statement;                                                                                                     \
        CC_NEXT();                                                                                                     \
    }
#define SSE_LOAD(name, unready, size, align, statement)                                                                \
    SSE_LOAD_FAST(m_##name, name, unready, cc_ea(cpu, op), size, align, statement)                                     \
    SSE_LOAD_FAST(b_##name, name, unready, SSE_EA_BASE, size, align, statement)
#define SSE_FROM_XMM(name) sse_put(cpu, op->r, k_##name(cpu, op, sse_get(cpu, op->r), sse_get(cpu, op->b)))
#define SSE_FROM_MEM(name) sse_put(cpu, op->r, k_##name(cpu, op, sse_get(cpu, op->r), s))

#define SSE_MEM_SPEC(size, align) ((size) | SSE_MEM | ((align) ? SSE_ALIGN : 0))
/* A register form in which nothing can fail. */
#define SSE_SIMPLE(name, statement) SSE_R_FAST(name, !cpu->sse_ok, cc_op_sse_unavailable, statement)
#define SSE_R(name) SSE_SIMPLE(name, SSE_FROM_XMM(name))
#define SSE_M(name, size, align)                                                                                       \
    SSE_TWIN(ms_##name, k_##name, SSE_MEM_SPEC(size, align))                                                           \
    SSE_LOAD(name, !cpu->sse_ok, size, align, SSE_FROM_MEM(name))
#define SSE_RM(name) SSE_R(name) SSE_M(name, 16, true)

/* The same for floating point: an unmasked exception goes to the slow path.  range: SSE_OP and SSE_LANES bits. */
#define SSE_FP_UNREADY (!cpu->sse_ok || cpu->mxcsr_unmasked)
#define SSE_FP_R(name, range)                                                                                          \
    SSE_TWIN(rs_##name, k_##name, SSE_FP | (range))                                                                    \
    SSE_R_FAST(name, SSE_FP_UNREADY, rs_##name, SSE_FROM_XMM(name))
#define SSE_FP_M(name, size, align, range)                                                                             \
    SSE_TWIN(ms_##name, k_##name, SSE_MEM_SPEC(size, align) | SSE_FP | (range))                                        \
    SSE_LOAD(name, SSE_FP_UNREADY, size, align, SSE_FROM_MEM(name))
#define SSE_FP_RM(name, size, align, range) SSE_FP_R(name, range) SSE_FP_M(name, size, align, range)

/* memory <- `size` bytes at src, an expression in cpu and op.  vector: the instruction needs the vector unit. */
#define SSE_STORE_FAST(handler, name, ea, size, align, vector, src)                                                    \
    static CC_OP(handler)                                                                                              \
    {                                                                                                                  \
        if ((vector) && cc_unlikely(!cpu->sse_ok))                                                                     \
            return cc_op_sse_unavailable(cpu, op, budget);                                                             \
        uint64_t va = ea;                                                                                              \
        const cc_tlbe *e = cc_tlb_entry(cpu, va);                                                                      \
        if (!SSE_HIT(e, wtag, va, size, align))                                                                        \
            return ms_##name(cpu, op, budget);                                                                         \
        memcpy((void *)(va + e->addend), src, size);                                                                   \
        CC_NEXT();                                                                                                     \
    }
#define SSE_STORE(name, size, align, vector, src)                                                                      \
    static CC_COLD CC_OP(ms_##name)                                                                                    \
    {                                                                                                                  \
        uint64_t va = cc_ea(cpu, op);                                                                                  \
        if (((align) && !cc_sse_aligned(cpu, va)) || !cc_mem_write_bounced(cpu, op, budget, va, src, size))            \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    SSE_STORE_FAST(m_##name, name, cc_ea(cpu, op), size, align, vector, src)                                           \
    SSE_STORE_FAST(b_##name, name, SSE_EA_BASE, size, align, vector, src)

/* ---- cases of a select function's switch ----------------------------------------------------------------------- */
#define SSE_MEM_FORM(name) (sse_base_only(op) ? b_##name : m_##name)
#define SSE_CASE(map, prefix, opcode, reg, memory)                                                                     \
    case SSE_KEY(map, prefix, opcode): return d->mem ? (memory) : (reg);
#define SSE_CASE_RM(map, prefix, opcode, name) SSE_CASE(map, prefix, opcode, r_##name, SSE_MEM_FORM(name))
#define SSE_CASE_R(map, prefix, opcode, name) SSE_CASE(map, prefix, opcode, r_##name, NULL)

#endif
