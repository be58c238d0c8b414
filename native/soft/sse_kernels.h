/*
 * soft/sse_kernels.h: the packed-integer operations of MMX to SSE4.1, for the XMM handlers (sse_int.c) and, on the low
 * halves, the MMX handlers (mmx.c).  Integer only: no operation here depends on MXCSR.
 */
#ifndef CC_SOFT_SSE_KERNELS_H
#define CC_SOFT_SSE_KERNELS_H

#include "sse.h"

typedef unsigned __int128 cc_u128;

static inline cc_u128 sse_to_u128(__m128i v)
{
    cc_xmm x = sse_split(v);
    return (cc_u128)x.q[1] << 64 | x.q[0];
}
static inline __m128i sse_from_u128(cc_u128 v) { return sse_qq((uint64_t)v, (uint64_t)(v >> 64)); }
static inline __m128i sse_select(__m128i mask, __m128i a, __m128i b)
{
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
}
static inline __m128i sse_zero(void) { return _mm_setzero_si128(); }
/* Lanes whose index is n. */
static inline __m128i sse_lane8(unsigned n)
{
    return _mm_cmpeq_epi8(_mm_set1_epi8((char)n), _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
static inline __m128i sse_lane16(unsigned n)
{
    return _mm_cmpeq_epi16(_mm_set1_epi16((short)n), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m128i sse_lane32(unsigned n)
{
    return _mm_cmpeq_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
}
/* Lanes whose bit is set in bits. */
static inline __m128i sse_bits16(unsigned bits)
{
    __m128i lane = _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16((short)bits), lane), lane);
}
static inline __m128i sse_bits32(unsigned bits)
{
    __m128i lane = _mm_setr_epi32(1, 2, 4, 8);
    return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int)bits), lane), lane);
}
static inline __m128i sse_bits64(unsigned bits)
{
    __m128i lane = _mm_setr_epi32(1, 1, 2, 2);
    return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int)bits), lane), lane);
}

/* ---- SSE2 ------------------------------------------------------------------------------------------------------ */
SSE_EXPR(paddb, _mm_add_epi8(d, s))
SSE_EXPR(paddw, _mm_add_epi16(d, s))
SSE_EXPR(paddd, _mm_add_epi32(d, s))
SSE_EXPR(paddq, _mm_add_epi64(d, s))
SSE_EXPR(psubb, _mm_sub_epi8(d, s))
SSE_EXPR(psubw, _mm_sub_epi16(d, s))
SSE_EXPR(psubd, _mm_sub_epi32(d, s))
SSE_EXPR(psubq, _mm_sub_epi64(d, s))
SSE_EXPR(paddsb, _mm_adds_epi8(d, s))
SSE_EXPR(paddsw, _mm_adds_epi16(d, s))
SSE_EXPR(paddusb, _mm_adds_epu8(d, s))
SSE_EXPR(paddusw, _mm_adds_epu16(d, s))
SSE_EXPR(psubsb, _mm_subs_epi8(d, s))
SSE_EXPR(psubsw, _mm_subs_epi16(d, s))
SSE_EXPR(psubusb, _mm_subs_epu8(d, s))
SSE_EXPR(psubusw, _mm_subs_epu16(d, s))
SSE_EXPR(pmullw, _mm_mullo_epi16(d, s))
SSE_EXPR(pmulhw, _mm_mulhi_epi16(d, s))
SSE_EXPR(pmulhuw, _mm_mulhi_epu16(d, s))
SSE_EXPR(pmuludq, _mm_mul_epu32(d, s))
SSE_EXPR(pmaddwd, _mm_madd_epi16(d, s))
SSE_EXPR(psadbw, _mm_sad_epu8(d, s))
SSE_EXPR(pavgb, _mm_avg_epu8(d, s))
SSE_EXPR(pavgw, _mm_avg_epu16(d, s))
SSE_EXPR(pminub, _mm_min_epu8(d, s))
SSE_EXPR(pmaxub, _mm_max_epu8(d, s))
SSE_EXPR(pminsw, _mm_min_epi16(d, s))
SSE_EXPR(pmaxsw, _mm_max_epi16(d, s))
SSE_EXPR(pcmpeqb, _mm_cmpeq_epi8(d, s))
SSE_EXPR(pcmpeqw, _mm_cmpeq_epi16(d, s))
SSE_EXPR(pcmpeqd, _mm_cmpeq_epi32(d, s))
SSE_EXPR(pcmpgtb, _mm_cmpgt_epi8(d, s))
SSE_EXPR(pcmpgtw, _mm_cmpgt_epi16(d, s))
SSE_EXPR(pcmpgtd, _mm_cmpgt_epi32(d, s))
SSE_EXPR(pand, _mm_and_si128(d, s))
SSE_EXPR(pandn, _mm_andnot_si128(d, s))
SSE_EXPR(por, _mm_or_si128(d, s))
SSE_EXPR(pxor, _mm_xor_si128(d, s))
SSE_EXPR(punpcklbw, _mm_unpacklo_epi8(d, s))
SSE_EXPR(punpcklwd, _mm_unpacklo_epi16(d, s))
SSE_EXPR(punpckldq, _mm_unpacklo_epi32(d, s))
SSE_EXPR(punpcklqdq, _mm_unpacklo_epi64(d, s))
SSE_EXPR(punpckhbw, _mm_unpackhi_epi8(d, s))
SSE_EXPR(punpckhwd, _mm_unpackhi_epi16(d, s))
SSE_EXPR(punpckhdq, _mm_unpackhi_epi32(d, s))
SSE_EXPR(punpckhqdq, _mm_unpackhi_epi64(d, s))
SSE_EXPR(packsswb, _mm_packs_epi16(d, s))
SSE_EXPR(packssdw, _mm_packs_epi32(d, s))
SSE_EXPR(packuswb, _mm_packus_epi16(d, s))
SSE_EXPR(psllw, _mm_sll_epi16(d, s))
SSE_EXPR(pslld, _mm_sll_epi32(d, s))
SSE_EXPR(psllq, _mm_sll_epi64(d, s))
SSE_EXPR(psrlw, _mm_srl_epi16(d, s))
SSE_EXPR(psrld, _mm_srl_epi32(d, s))
SSE_EXPR(psrlq, _mm_srl_epi64(d, s))
SSE_EXPR(psraw, _mm_sra_epi16(d, s))
SSE_EXPR(psrad, _mm_sra_epi32(d, s))

/* Shifts by imm8: the shifted register is ModRM.rm, which the macros pass as d. */
#define SSE_COUNT _mm_cvtsi32_si128((int)sse_imm(op))
SSE_EXPR(psllw_i, _mm_sll_epi16(d, SSE_COUNT))
SSE_EXPR(pslld_i, _mm_sll_epi32(d, SSE_COUNT))
SSE_EXPR(psllq_i, _mm_sll_epi64(d, SSE_COUNT))
SSE_EXPR(psrlw_i, _mm_srl_epi16(d, SSE_COUNT))
SSE_EXPR(psrld_i, _mm_srl_epi32(d, SSE_COUNT))
SSE_EXPR(psrlq_i, _mm_srl_epi64(d, SSE_COUNT))
SSE_EXPR(psraw_i, _mm_sra_epi16(d, SSE_COUNT))
SSE_EXPR(psrad_i, _mm_sra_epi32(d, SSE_COUNT))
#undef SSE_COUNT
SSE_FN(pslldq)
{
    unsigned n = sse_imm(op);
    return n > 15 ? sse_zero() : sse_from_u128(sse_to_u128(d) << 8 * n);
}
SSE_FN(psrldq)
{
    unsigned n = sse_imm(op);
    return n > 15 ? sse_zero() : sse_from_u128(sse_to_u128(d) >> 8 * n);
}

static inline uint64_t sse_shuffle4w(uint64_t w, unsigned imm)
{
    return (w >> 16 * (imm & 3) & 0xffff) | (w >> 16 * (imm >> 2 & 3) & 0xffff) << 16 |
           (w >> 16 * (imm >> 4 & 3) & 0xffff) << 32 | (w >> 16 * (imm >> 6 & 3) & 0xffff) << 48;
}
SSE_FN(pshuflw)
{
    __m128i lo = sse_q(sse_shuffle4w(sse_low(s), sse_imm(op)));
    return _mm_unpacklo_epi64(lo, _mm_unpackhi_epi64(s, s));
}
SSE_FN(pshufhw)
{
    __m128i hi = sse_q(sse_shuffle4w(sse_low(_mm_unpackhi_epi64(s, s)), sse_imm(op)));
    return _mm_unpacklo_epi64(s, hi);
}
static inline __m128i sse_dword(const cc_xmm *v, unsigned i) { return _mm_cvtsi32_si128(v->sd[i & 3]); }
SSE_FN(pshufd)
{
    cc_xmm v = sse_split(s);
    unsigned i = sse_imm(op);
    return _mm_unpacklo_epi64(_mm_unpacklo_epi32(sse_dword(&v, i), sse_dword(&v, i >> 2)),
                              _mm_unpacklo_epi32(sse_dword(&v, i >> 4), sse_dword(&v, i >> 6)));
}
SSE_FN(shufps)
{
    cc_xmm v = sse_split(s), u = sse_split(d);
    unsigned i = sse_imm(op);
    return _mm_unpacklo_epi64(_mm_unpacklo_epi32(sse_dword(&u, i), sse_dword(&u, i >> 2)),
                              _mm_unpacklo_epi32(sse_dword(&v, i >> 4), sse_dword(&v, i >> 6)));
}
SSE_FN(shufpd)
{
    unsigned i = sse_imm(op);
    return _mm_unpacklo_epi64(i & 1 ? _mm_unpackhi_epi64(d, d) : d, i & 2 ? _mm_unpackhi_epi64(s, s) : s);
}

/* ---- SSSE3 ----------------------------------------------------------------------------------------------------- */
/* Even and odd words or dwords of d then s. */
static inline __m128i sse_even16(__m128i d, __m128i s)
{
    return _mm_packs_epi32(_mm_srai_epi32(_mm_slli_epi32(d, 16), 16), _mm_srai_epi32(_mm_slli_epi32(s, 16), 16));
}
static inline __m128i sse_odd16(__m128i d, __m128i s)
{
    return _mm_packs_epi32(_mm_srai_epi32(d, 16), _mm_srai_epi32(s, 16));
}
#define SSE_SHUF32(d, s, imm) _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(d), _mm_castsi128_ps(s), imm))
SSE_EXPR(phaddw, _mm_add_epi16(sse_even16(d, s), sse_odd16(d, s)))
SSE_EXPR(phaddsw, _mm_adds_epi16(sse_even16(d, s), sse_odd16(d, s)))
SSE_EXPR(phsubw, _mm_sub_epi16(sse_even16(d, s), sse_odd16(d, s)))
SSE_EXPR(phsubsw, _mm_subs_epi16(sse_even16(d, s), sse_odd16(d, s)))
SSE_EXPR(phaddd, _mm_add_epi32(SSE_SHUF32(d, s, 0x88), SSE_SHUF32(d, s, 0xdd)))
SSE_EXPR(phsubd, _mm_sub_epi32(SSE_SHUF32(d, s, 0x88), SSE_SHUF32(d, s, 0xdd)))
/* d unsigned, s signed bytes */
SSE_EXPR(pmaddubsw,
         _mm_adds_epi16(_mm_mullo_epi16(_mm_and_si128(d, _mm_set1_epi16(0xff)),
                                        _mm_srai_epi16(_mm_slli_epi16(s, 8), 8)),
                        _mm_mullo_epi16(_mm_srli_epi16(d, 8), _mm_srai_epi16(s, 8))))
SSE_FN(pmulhrsw)
{
    __m128i lo = _mm_mullo_epi16(d, s), hi = _mm_mulhi_epi16(d, s), one = _mm_set1_epi32(1);
    __m128i a = _mm_srai_epi32(_mm_add_epi32(_mm_srai_epi32(_mm_unpacklo_epi16(lo, hi), 14), one), 1);
    __m128i b = _mm_srai_epi32(_mm_add_epi32(_mm_srai_epi32(_mm_unpackhi_epi16(lo, hi), 14), one), 1);
    return sse_even16(a, b);      /* 8000 * 8000 wraps */
}
SSE_FN(pabsb) { return _mm_min_epu8(s, _mm_sub_epi8(sse_zero(), s)); }
SSE_FN(pabsw) { return _mm_max_epi16(s, _mm_sub_epi16(sse_zero(), s)); }
SSE_FN(pabsd)
{
    __m128i m = _mm_srai_epi32(s, 31);
    return _mm_sub_epi32(_mm_xor_si128(s, m), m);
}
#define SSE_SIGN(name, bits)                                                                                           \
    SSE_FN(name)                                                                                                       \
    {                                                                                                                  \
        __m128i m = _mm_cmpgt_epi##bits(sse_zero(), s);                                                                \
        __m128i v = _mm_sub_epi##bits(_mm_xor_si128(d, m), m);                                                         \
        return _mm_andnot_si128(_mm_cmpeq_epi##bits(s, sse_zero()), v);                                                \
    }
SSE_SIGN(psignb, 8)
SSE_SIGN(psignw, 16)
SSE_SIGN(psignd, 32)
#undef SSE_SIGN
SSE_FN(pshufb)
{
    cc_xmm t = sse_split(d), i = sse_split(_mm_and_si128(s, _mm_set1_epi8(15))), r;
    for (unsigned k = 0; k < 16; k++)
        r.b[k] = t.b[i.b[k]];
    return _mm_andnot_si128(_mm_cmpgt_epi8(sse_zero(), s), sse_of(&r));
}
SSE_FN(palignr)
{
    unsigned n = 8 * sse_imm(op);
    if (n >= 128)
        return n >= 256 ? sse_zero() : sse_from_u128(sse_to_u128(d) >> (n - 128));
    return n ? sse_from_u128(sse_to_u128(s) >> n | sse_to_u128(d) << (128 - n)) : s;
}

/* ---- SSE4.1 and SSE4.2 ----------------------------------------------------------------------------------------- */
SSE_EXPR(pminsb, sse_select(_mm_cmpgt_epi8(d, s), s, d))
SSE_EXPR(pmaxsb, sse_select(_mm_cmpgt_epi8(d, s), d, s))
SSE_EXPR(pminsd, sse_select(_mm_cmpgt_epi32(d, s), s, d))
SSE_EXPR(pmaxsd, sse_select(_mm_cmpgt_epi32(d, s), d, s))
SSE_EXPR(pminuw, _mm_sub_epi16(d, _mm_subs_epu16(d, s)))
SSE_EXPR(pmaxuw, _mm_add_epi16(s, _mm_subs_epu16(d, s)))
static inline __m128i sse_gtu32(__m128i a, __m128i b)
{
    __m128i bias = _mm_set1_epi32(INT32_MIN);
    return _mm_cmpgt_epi32(_mm_xor_si128(a, bias), _mm_xor_si128(b, bias));
}
SSE_EXPR(pminud, sse_select(sse_gtu32(d, s), s, d))
SSE_EXPR(pmaxud, sse_select(sse_gtu32(d, s), d, s))
SSE_FN(pmulld)
{
    __m128i even = _mm_mul_epu32(d, s), odd = _mm_mul_epu32(_mm_srli_epi64(d, 32), _mm_srli_epi64(s, 32));
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08));
}
SSE_FN(pmuldq)
{
    cc_xmm a = sse_split(d), b = sse_split(s);
    return sse_qq((uint64_t)((int64_t)a.sd[0] * b.sd[0]), (uint64_t)((int64_t)a.sd[2] * b.sd[2]));
}
SSE_FN(pcmpeqq)
{
    __m128i e = _mm_cmpeq_epi32(d, s);
    return _mm_and_si128(e, _mm_shuffle_epi32(e, 0xb1));
}
SSE_FN(pcmpgtq)
{
    cc_xmm a = sse_split(d), b = sse_split(s);
    return sse_qq(-(uint64_t)(a.sq[0] > b.sq[0]), -(uint64_t)(a.sq[1] > b.sq[1]));
}
static inline __m128i sse_clamp_u16(__m128i v)
{
    v = _mm_and_si128(v, _mm_cmpgt_epi32(v, _mm_set1_epi32(-1)));
    return _mm_or_si128(v, _mm_cmpgt_epi32(v, _mm_set1_epi32(0xffff)));
}
SSE_EXPR(packusdw, sse_even16(sse_clamp_u16(d), sse_clamp_u16(s)))
SSE_FN(phminposuw)
{
    cc_xmm v = sse_split(s);
    unsigned at = 0;
    for (unsigned i = 1; i < 8; i++)
        if (v.w[i] < v.w[at])
            at = i;
    return _mm_cvtsi32_si128((int)(v.w[at] | at << 16));
}
SSE_FN(mpsadbw)
{
    cc_xmm a = sse_split(d), b = sse_split(s), r;
    unsigned i = sse_imm(op), from = (i >> 2 & 1) * 4, block = (i & 3) * 4;
    for (unsigned k = 0; k < 8; k++) {
        unsigned sum = 0;
        for (unsigned n = 0; n < 4; n++) {
            int diff = a.b[from + k + n] - b.b[block + n];
            sum += (unsigned)(diff < 0 ? -diff : diff);
        }
        r.w[k] = (uint16_t)sum;
    }
    return sse_of(&r);
}
SSE_EXPR(pblendw, sse_select(sse_bits16(sse_imm(op)), s, d))
SSE_EXPR(blendps, sse_select(sse_bits32(sse_imm(op)), s, d))
SSE_EXPR(blendpd, sse_select(sse_bits64(sse_imm(op)), s, d))
/* The mask is XMM0. */
SSE_EXPR(pblendvb, sse_select(_mm_cmpgt_epi8(sse_zero(), sse_get(cpu, 0)), s, d))
SSE_EXPR(blendvps, sse_select(_mm_srai_epi32(sse_get(cpu, 0), 31), s, d))
SSE_EXPR(blendvpd, sse_select(_mm_shuffle_epi32(_mm_srai_epi32(sse_get(cpu, 0), 31), 0xf5), s, d))

SSE_EXPR(pmovsxbw, _mm_srai_epi16(_mm_unpacklo_epi8(s, s), 8))
SSE_EXPR(pmovsxwd, _mm_srai_epi32(_mm_unpacklo_epi16(s, s), 16))
SSE_EXPR(pmovsxdq, _mm_unpacklo_epi32(s, _mm_srai_epi32(s, 31)))
SSE_EXPR(pmovsxbd, _mm_srai_epi32(_mm_unpacklo_epi16(s, _mm_unpacklo_epi8(s, s)), 24))
SSE_EXPR(pmovsxwq, k_pmovsxdq(cpu, op, d, k_pmovsxwd(cpu, op, d, s)))
SSE_EXPR(pmovsxbq, k_pmovsxdq(cpu, op, d, k_pmovsxbd(cpu, op, d, s)))
SSE_EXPR(pmovzxbw, _mm_unpacklo_epi8(s, sse_zero()))
SSE_EXPR(pmovzxwd, _mm_unpacklo_epi16(s, sse_zero()))
SSE_EXPR(pmovzxdq, _mm_unpacklo_epi32(s, sse_zero()))
SSE_EXPR(pmovzxbd, _mm_unpacklo_epi16(_mm_unpacklo_epi8(s, sse_zero()), sse_zero()))
SSE_EXPR(pmovzxwq, _mm_unpacklo_epi32(_mm_unpacklo_epi16(s, sse_zero()), sse_zero()))
SSE_EXPR(pmovzxbq, _mm_unpacklo_epi32(k_pmovzxbd(cpu, op, d, s), sse_zero()))

#endif
