/*
 * soft/mmx_cvt.c: conversions between floating point in XMM registers and integers in MMX registers, made from the SSE2
 * conversions of the same lanes, so that the host's x87 state is never touched.  Rare: every one takes the slow path.
 */
#include "sse_kernels.h"

#define HOST_CVT(name)                                                                                                 \
    static inline __m128i name(__m128i s)                                                                              \
    {                                                                                                                  \
        __asm__ volatile(#name " %0, %0" : "+x"(s));                                                                   \
        return s;                                                                                                      \
    }
HOST_CVT(cvtdq2ps)
HOST_CVT(cvtdq2pd)
HOST_CVT(cvtps2dq)
HOST_CVT(cvttps2dq)
HOST_CVT(cvtpd2dq)
HOST_CVT(cvttpd2dq)

SSE_EXPR(cvtpi2ps, _mm_unpacklo_epi64(cvtdq2ps(_mm_move_epi64(s)), _mm_unpackhi_epi64(d, d)))
SSE_EXPR(cvtpi2pd, cvtdq2pd(s))
SSE_EXPR(cvtps2pi, cvtps2dq(_mm_move_epi64(s)))
SSE_EXPR(cvttps2pi, cvttps2dq(_mm_move_epi64(s)))
SSE_EXPR(cvtpd2pi, cvtpd2dq(s))
SSE_EXPR(cvttpd2pi, cvttpd2dq(s))

/* From memory no MMX register is involved and there is no transition: the SDM says so for CVTPI2PD, processors do the
 * same for CVTPI2PS. */
SSE_TWIN(r_cvtpi2ps, k_cvtpi2ps, SSE_SRC_MM | SSE_MMX | SSE_FP)
SSE_TWIN(m_cvtpi2ps, k_cvtpi2ps, 8 | SSE_MEM | SSE_FP)
SSE_TWIN(r_cvtpi2pd, k_cvtpi2pd, SSE_SRC_MM | SSE_MMX)
SSE_TWIN(m_cvtpi2pd, k_cvtpi2pd, 8 | SSE_MEM)
SSE_TWIN(r_cvtps2pi, k_cvtps2pi, SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(m_cvtps2pi, k_cvtps2pi, 8 | SSE_MEM | SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(r_cvttps2pi, k_cvttps2pi, SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(m_cvttps2pi, k_cvttps2pi, 8 | SSE_MEM | SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(r_cvtpd2pi, k_cvtpd2pi, SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(m_cvtpd2pi, k_cvtpd2pi, 16 | SSE_MEM | SSE_ALIGN | SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(r_cvttpd2pi, k_cvttpd2pi, SSE_DST_MM | SSE_MMX | SSE_FP)
SSE_TWIN(m_cvttpd2pi, k_cvttpd2pi, 16 | SSE_MEM | SSE_ALIGN | SSE_DST_MM | SSE_MMX | SSE_FP)

cc_opfn cc_mmx_select_cvt(const cc_dec *d, const cc_op *op CC_UNUSED, unsigned key)
{
    switch (key) {
        SSE_CASE(1, SSE_NP, 0x2a, r_cvtpi2ps, m_cvtpi2ps)
        SSE_CASE(1, SSE_66, 0x2a, r_cvtpi2pd, m_cvtpi2pd)
        SSE_CASE(1, SSE_NP, 0x2c, r_cvttps2pi, m_cvttps2pi)
        SSE_CASE(1, SSE_66, 0x2c, r_cvttpd2pi, m_cvttpd2pi)
        SSE_CASE(1, SSE_NP, 0x2d, r_cvtps2pi, m_cvtps2pi)
        SSE_CASE(1, SSE_66, 0x2d, r_cvtpd2pi, m_cvtpd2pi)
    }
    return NULL;
}
