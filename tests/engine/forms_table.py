"""The 64-bit-mode opcode map, written from the Intel SDM (vol. 2, instruction reference and appendices A and B).

It says what exists, independently of the engine: the differential test draws instructions from it and must hit every
line.  One line per instruction form:

    name  opcode  operands  attributes

opcode      hex bytes, led by the mandatory prefix (np, 66, f2, f3) where the opcode has one; `/d` is a ModRM.reg
            digit, a hex byte after `=` a fixed ModRM byte, `+r` a register in the opcode's low three bits.
operands    SDM appendix A codes, comma-separated: E M R (ModRM.rm: register or memory, memory only, register only),
            G, V W U (XMM), P Q N (MMX), S C D (segment, control, debug), I, J, O, Z (opcode register), A fixed
            register, T (x87 register i).  Sizes: b w d q v(16/32/64) z(16/32) y(32/64) x(128) and, for memory only,
            f32 f64 f80 i16 i32 i64 bcd env state fx p (far pointer) or a byte count.  `+` read and written, `=`
            written.  A size after an XMM letter is that of the memory form (W4: 32 bits); `d2`: 32-bit register or
            2 bytes of memory.  Memory holding packed floats: x:f32, x:f64.
attributes  t: m: u: flags tested, modified (defined result), undefined (o s z a p c, d for DF);
            w:REG,REG general registers written implicitly; xu: x87 condition bits left undefined;
            norep no F3 allowed (it is another instruction); mem:N bytes of memory whatever the operand size;
            d64 the operand size defaults to 64 bits; lock LOCK allowed; al16 memory operand must be aligned;
            sp:NAME needs a special generator; ud always #UD; gp #GP(0) at CPL 3; ring0 never run natively;
            w1 REX.W forced; w0 REX.W never (the vendors differ).
"""

INTEGER = """
# ---- 00-3F: arithmetic (each of the eight lines is expanded for ADD OR ADC SBB AND SUB XOR CMP) ---------------
alu   00 Eb+,Gb
alu   01 Ev+,Gv
alu   02 Gb+,Eb
alu   03 Gv+,Ev
alu   04 ALb+,Ib
alu   05 AXv+,Iz
# ---- 40-6F ------------------------------------------------------------------------------------------------------
push  50+r Zv           d64 sp:stack
pop   58+r Zv=          d64 sp:stack
movsxd 63 Gv=,Ez        mem:4 sp:nowild
push  68 Iz             d64 sp:stack
imul  69 Gv=,Ev,Iz      m:oc u:szap
push  6a Ib             d64 sp:stack
imul  6b Gv=,Ev,Ib      m:oc u:szap
ins   6c -              gp
ins   6d -              gp
outs  6e -              gp
outs  6f -              gp
# ---- 70-8F ------------------------------------------------------------------------------------------------------
jcc   7x Jb             sp:jcc
grp1  80/x Eb+,Ib       lock
grp1  81/x Ev+,Iz       lock
grp1  83/x Ev+,Ib       lock
test  84 Eb,Gb          m:oszpc u:a
test  85 Ev,Gv          m:oszpc u:a
xchg  86 Eb+,Gb+        lock
xchg  87 Ev+,Gv+        lock
mov   88 Eb=,Gb
mov   89 Ev=,Gv
mov   8a Gb=,Eb
mov   8b Gv=,Ev
mov   8c Ev=,Sw         mem:2 sp:rdseg
lea   8d Gv=,M0
mov   8e Sw=,Ew         sp:wrseg
pop   8f/0 Ev=          d64 sp:stack
# ---- 90-AF ------------------------------------------------------------------------------------------------------
nop   90 -
pause f3_90 -
xchg  90+r AXv+,Zv+
cbw   98 AXv+
cwd   99 AXv            w:rdx
fwait 9b -              x87
pushf 9c -v             d64 t:oszapcd sp:pushf
popf  9d -v             d64 m:oszapcd sp:popf
sahf  9e -              m:szapc
lahf  9f -              t:szapc w:rax
mov   a0 ALb=,Ob
mov   a1 AXv=,Ov
mov   a2 Ob=,ALb
mov   a3 Ov=,AXv
movs  a4 -b             t:d sp:string
movs  a5 -v             t:d sp:string
cmps  a6 -b             t:d m:oszapc sp:string
cmps  a7 -v             t:d m:oszapc sp:string
test  a8 ALb,Ib         m:oszpc u:a
test  a9 AXv,Iz         m:oszpc u:a
stos  aa -b             t:d sp:string
stos  ab -v             t:d sp:string
lods  ac -b             t:d sp:string
lods  ad -v             t:d sp:string
scas  ae -b             t:d m:oszapc sp:string
scas  af -v             t:d m:oszapc sp:string
# ---- B0-CF ------------------------------------------------------------------------------------------------------
mov   b0+r Zb=,Ib
mov   b8+r Zv=,Iv
shift c0/x Eb+,Ib       sp:shift
shift c1/x Ev+,Ib       sp:shift
ret   c2 Iw             sp:ret
ret   c3 -              sp:ret
mov   c6/0 Eb=,Ib
mov   c7/0 Ev=,Iz
enter c8 Iw,Ib          sp:enter
leave c9 -v             d64 w:rsp,rbp sp:leave
retf  ca Iw,v           sp:retf
retf  cb -v             sp:retf
int3  cc -              sp:int3
int   cd Ib             sp:int
iret  cf -v             sp:iret
# ---- D0-FF ------------------------------------------------------------------------------------------------------
shift d0/x Eb+          sp:shift
shift d1/x Ev+          sp:shift
shift d2/x Eb+          sp:shift
shift d3/x Ev+          sp:shift
xlat  d7 -              w:rax sp:xlat
loopne e0 Jb            t:z w:rcx sp:loop
loope e1 Jb             t:z w:rcx sp:loop
loop  e2 Jb             w:rcx sp:loop
jrcxz e3 Jb             sp:loop
in    e4 Ib             gp
in    e5 Ib             gp
out   e6 Ib             gp
out   e7 Ib             gp
call  e8 Jd             sp:call
jmp   e9 Jd             sp:jmp
jmp   eb Jb             sp:jmp
in    ec -              gp
in    ed -              gp
out   ee -              gp
out   ef -              gp
int1  f1 -              sp:int1
hlt   f4 -              gp
cmc   f5 -              t:c m:c
test  f6/0 Eb,Ib        m:oszpc u:a
test  f6/1 Eb,Ib        m:oszpc u:a
not   f6/2 Eb+          lock
neg   f6/3 Eb+          m:oszapc lock
mul   f6/4 Eb           m:oc u:szap w:rax
imul  f6/5 Eb           m:oc u:szap w:rax
div   f6/6 Eb           u:oszapc w:rax sp:div
idiv  f6/7 Eb           u:oszapc w:rax sp:div
test  f7/0 Ev,Iz        m:oszpc u:a
test  f7/1 Ev,Iz        m:oszpc u:a
not   f7/2 Ev+          lock
neg   f7/3 Ev+          m:oszapc lock
mul   f7/4 Ev           m:oc u:szap w:rax,rdx
imul  f7/5 Ev           m:oc u:szap w:rax,rdx
div   f7/6 Ev           u:oszapc w:rax,rdx sp:div
idiv  f7/7 Ev           u:oszapc w:rax,rdx sp:div
clc   f8 -              m:c
stc   f9 -              m:c
cli   fa -              gp
sti   fb -              gp
cld   fc -              m:d
std   fd -              m:d
inc   fe/0 Eb+          m:oszap lock
dec   fe/1 Eb+          m:oszap lock
inc   ff/0 Ev+          m:oszap lock
dec   ff/1 Ev+          m:oszap lock
call  ff/2 Eq           sp:calli
callf ff/3 Mp           sp:farptr
jmp   ff/4 Eq           sp:jmpi
jmpf  ff/5 Mp           sp:farptr
push  ff/6 Ev           d64 sp:stack
# ---- 0F 00-1F -----------------------------------------------------------------------------------------------------
lldt  0f_00/2 Ew        gp
ltr   0f_00/3 Ew        gp
verr  0f_00/4 Ew        m:z sp:selector
verw  0f_00/5 Ew        m:z sp:selector
lgdt  0f_01/2 M10       gp
lidt  0f_01/3 M10       gp
lmsw  0f_01/6 Ew        gp
invlpg 0f_01/7 M1       gp
swapgs 0f_01=f8 -       gp
lar   0f_02 Gv=,Ew      m:z sp:selector
lsl   0f_03 Gv=,Ew      m:z sp:selector
clts  0f_06 -           gp
sysret 0f_07 -          gp
invd  0f_08 -           gp
wbinvd 0f_09 -          gp
ud2   0f_0b -           ud
prefetchw 0f_0d M1      sp:hint
prefetch 0f_18 M1       sp:hint
nop   0f_19 Ev          sp:hint
nop   0f_1a Rv          sp:hint
nop   0f_1b Rv          sp:hint
nop   0f_1c Ev          sp:hint
nop   0f_1d Ev          sp:hint
endbr64 f3_0f_1e=fa -
nop   0f_1f Ev          sp:hint
movcr 0f_20 Rq,Cq       gp
movdr 0f_21 Rq,Dq       gp
movcr 0f_22 Rq,Cq       gp
movdr 0f_23 Rq,Dq       gp
wrmsr 0f_30 -           gp
rdmsr 0f_32 -           gp
# ---- 0F 40-9F -----------------------------------------------------------------------------------------------------
cmov  0f_4x Gv+,Ev      sp:cmov
jcc   0f_8x Jd          sp:jcc
setcc 0f_9x Eb=         sp:setcc
# ---- 0F A0-CF -----------------------------------------------------------------------------------------------------
push  0f_a0 -v          d64 sp:stack
pop   0f_a1 -v          d64 sp:popseg
bt    0f_a3 Ev,Gv       m:c u:osap sp:bitmem
shld  0f_a4 Ev+,Gv,Ib   sp:shld
shld  0f_a5 Ev+,Gv      sp:shld
push  0f_a8 -v          d64 sp:stack
pop   0f_a9 -v          d64 sp:popseg
bts   0f_ab Ev+,Gv      m:c u:osap lock sp:bitmem
shrd  0f_ac Ev+,Gv,Ib   sp:shld
shrd  0f_ad Ev+,Gv      sp:shld
rdfsbase f3_0f_ae/0 Ry=
rdgsbase f3_0f_ae/1 Ry=
wrfsbase f3_0f_ae/2 Ry  sp:wrbase
wrgsbase f3_0f_ae/3 Ry  sp:wrbase
imul  0f_af Gv+,Ev      m:oc u:szap
cmpxchg 0f_b0 Eb+,Gb    m:oszapc w:rax lock
cmpxchg 0f_b1 Ev+,Gv    m:oszapc w:rax lock
lss   0f_b2 Gz=,Mp      sp:lsel
btr   0f_b3 Ev+,Gv      m:c u:osap lock sp:bitmem
lfs   0f_b4 Gz=,Mp      sp:lsel
lgs   0f_b5 Gz=,Mp      sp:lsel
movzx 0f_b6 Gv=,Eb
movzx 0f_b7 Gv=,Ew
popcnt f3_0f_b8 Gv=,Ev  m:oszapc
ud1   0f_b9 Gv,Ev       ud
bt    0f_ba/4 Ev,Ib     m:c u:osap
bts   0f_ba/5 Ev+,Ib    m:c u:osap lock
btr   0f_ba/6 Ev+,Ib    m:c u:osap lock
btc   0f_ba/7 Ev+,Ib    m:c u:osap lock
btc   0f_bb Ev+,Gv      m:c u:osap lock sp:bitmem
bsf   0f_bc Gv+,Ev      m:z u:osapc norep
bsr   0f_bd Gv+,Ev      m:z u:osapc norep
movsx 0f_be Gv=,Eb
movsx 0f_bf Gv=,Ew
xadd  0f_c0 Eb+,Gb+     m:oszapc lock
xadd  0f_c1 Ev+,Gv+     m:oszapc lock
movnti np_0f_c3 My=,Gy
cmpxchg8b 0f_c7/1 M8+   m:z w:rax,rdx lock w0
cmpxchg16b 0f_c7/1 M16+ m:z w:rax,rdx lock w1 al16
bswap 0f_c8+r Zy+
ud0   0f_ff -           ud
# ---- 0F 38 --------------------------------------------------------------------------------------------------------
movbe np_0f38_f0 Gv=,Mv
movbe np_0f38_f1 Mv=,Gv
crc32 f2_0f38_f0 Gy+,Eb
crc32 f2_0f38_f1 Gy+,Ev
# ---- undefined in 64-bit mode -------------------------------------------------------------------------------------
und   06 -              ud
und   07 -              ud
und   0e -              ud
und   16 -              ud
und   17 -              ud
und   1e -              ud
und   1f -              ud
und   27 -              ud
und   2f -              ud
und   37 -              ud
und   3f -              ud
und   60 -              ud
und   61 -              ud
und   82/x Eb,Ib        ud
und   9a -              ud
und   ce -              ud
und   d4 -              ud
und   d5 -              ud
und   d6 -              ud
und   ea -              ud
und   c6/1 Rb,Ib        ud
und   c7/1 Rv,Iz        ud
und   fe/2 Rb           ud
und   ff/7 Rv           ud
und   ff/3 Rv           ud
und   ff/5 Rv           ud
und   8d Gv,Rv          ud
und   0f_04 -           ud
und   0f_0a -           ud
und   0f_0c -           ud
und   0f_24 -           ud
und   0f_26 -           ud
und   0f_36 -           ud
und   0f_a6 -           ud
und   0f_a7 -           ud
und   0f_ba/0 Ev,Ib     ud
und   0f_ba/3 Ev,Ib     ud
und   0f_c7/1 Rv        ud
und   0f_b2 Gv,Rv       ud
und   0f_b4 Gv,Rv       ud
und   0f_c3 Gy,Ry       ud
"""

X87 = """
# ---- D8 / DC / DE: arithmetic, (FADD FMUL FCOM FCOMP FSUB FSUBR FDIV FDIVR expanded from `x87a`) --------------
x87a  d8/x Mf32
x87a  d8/x T            sp:sti
x87a  dc/x Mf64
x87r  dc/x T            sp:sti
x87i  da/x Mi32
x87i  de/x Mi16
x87p  de/x T            sp:sti
fcom2 dc/2 T            sp:sti
fcomp3 dc/3 T           sp:sti
fcomp5 de/2 T           sp:sti
fcompp de=d9 -          xu:-
# ---- D9 -------------------------------------------------------------------------------------------------------------
fld   d9/0 Mf32         xu:023
fld   d9/0 T            xu:023 sp:sti
fxch  d9/1 T            xu:023 sp:sti
fst   d9/2 Mf32=        xu:023
fnop  d9=d0 -           xu:0123
fstp  d9/3 Mf32=        xu:023
fstp1 d9/3 T            xu:023 sp:sti
fldenv d9/4 Menv        sp:fenv
fchs  d9=e0 -           xu:023
fabs  d9=e1 -           xu:023
ftst  d9=e4 -           xu:-
fxam  d9=e5 -           xu:-
fldcw d9/5 M2           xu:0123 sp:fldcw
fld1  d9=e8 -           xu:023
fldl2t d9=e9 -          xu:023
fldl2e d9=ea -          xu:023
fldpi d9=eb -           xu:023
fldlg2 d9=ec -          xu:023
fldln2 d9=ed -          xu:023
fldz  d9=ee -           xu:023
fnstenv d9/6 Menv=      xu:0123 sp:fenv
f2xm1 d9=f0 -           sp:approx
fyl2x d9=f1 -           sp:approx
fptan d9=f2 -           sp:approx
fpatan d9=f3 -          sp:approx
fxtract d9=f4 -         xu:023
fprem1 d9=f5 -          xu:-
fdecstp d9=f6 -         xu:023
fincstp d9=f7 -         xu:023
fnstcw d9/7 M2=         xu:0123
fprem d9=f8 -           xu:-
fyl2xp1 d9=f9 -         sp:approx
fsqrt d9=fa -           xu:023
fsincos d9=fb -         sp:approx
frndint d9=fc -         xu:023
fscale d9=fd -          xu:023
fsin  d9=fe -           sp:approx
fcos  d9=ff -           sp:approx
und   d9=d1 -           ud
und   d9=e2 -           ud
und   d9=e6 -           ud
und   d9=ef -           ud
# ---- DA / DB ---------------------------------------------------------------------------------------------------------
fcmovb da/0 T           t:c xu:023 sp:sti
fcmove da/1 T           t:z xu:023 sp:sti
fcmovbe da/2 T          t:cz xu:023 sp:sti
fcmovu da/3 T           t:p xu:023 sp:sti
fucompp da=e9 -         xu:-
und   da=e8 -           ud
und   da=f0 -           ud
fild  db/0 Mi32         xu:023
fisttp db/1 Mi32=       xu:023
fist  db/2 Mi32=        xu:023
fistp db/3 Mi32=        xu:023
fcmovnb db/0 T          t:c xu:023 sp:sti
fcmovne db/1 T          t:z xu:023 sp:sti
fcmovnbe db/2 T         t:cz xu:023 sp:sti
fcmovnu db/3 T          t:p xu:023 sp:sti
fneni db=e0 -
fndisi db=e1 -
fnclex db=e2 -          xu:0123
fninit db=e3 -          sp:fninit
fnsetpm db=e4 -
fld   db/5 Mf80         xu:023
fucomi db/5 T           m:oszapc sp:sti
fcomi db/6 T            m:oszapc sp:sti
fstp  db/7 Mf80=        xu:023
und   db/4 M1           ud
und   db/6 M1           ud
und   db=e5 -           ud
und   db=f8 -           ud
# ---- DC / DD ---------------------------------------------------------------------------------------------------------
fld   dd/0 Mf64         xu:023
fisttp dd/1 Mi64=       xu:023
fst   dd/2 Mf64=        xu:023
fstp  dd/3 Mf64=        xu:023
frstor dd/4 Mstate      sp:fenv
fnsave dd/6 Mstate=     sp:fenv
fnstsw dd/7 M2=         sp:fstsw
ffree dd/0 T            xu:0123 sp:sti
fxch4 dd/1 T            xu:023 sp:sti
fst   dd/2 T            xu:023 sp:sti
fstp  dd/3 T            xu:023 sp:sti
fucom dd/4 T            xu:- sp:sti
fucomp dd/5 T           xu:- sp:sti
und   dd/5 M1           ud
und   dd=f0 -           ud
# ---- DE / DF ---------------------------------------------------------------------------------------------------------
und   de=d8 -           ud
und   de=df -           ud
fild  df/0 Mi16         xu:023
fisttp df/1 Mi16=       xu:023
fist  df/2 Mi16=        xu:023
fistp df/3 Mi16=        xu:023
fbld  df/4 Mbcd         xu:023
fild  df/5 Mi64         xu:023
fbstp df/6 Mbcd=        xu:023
fistp df/7 Mi64=        xu:023
ffreep df/0 T           xu:0123 sp:sti
fxch7 df/1 T            xu:023 sp:sti
fstp8 df/2 T            xu:023 sp:sti
fstp9 df/3 T            xu:023 sp:sti
fnstsw df=e0 -          w:rax sp:fstsw
fucomip df/5 T          m:oszapc sp:sti
fcomip df/6 T           m:oszapc sp:sti
und   df=e1 -           ud
und   df=f8 -           ud
"""

# Operand letters as above.  W*x:f32 marks packed single data in memory, so that interesting values are loaded.
SSE = """
# ---- SSE, SSE2 moves ---------------------------------------------------------------------------------------------------
movups np_0f_10 Vx=,Wx:f32
movupd 66_0f_10 Vx=,Wx:f64
movss f3_0f_10 Vx+,W4:f32
movsd f2_0f_10 Vx+,W8:f64
movups np_0f_11 Wx=,Vx
movupd 66_0f_11 Wx=,Vx
movss f3_0f_11 W4+,Vx
movsd f2_0f_11 W8+,Vx
movlps np_0f_12 Vx+,M8:f32
movhlps np_0f_12 Vx+,Ux
movlpd 66_0f_12 Vx+,M8:f64
movsldup f3_0f_12 Vx=,Wx:f32 al16
movddup f2_0f_12 Vx=,W8:f64
movlps np_0f_13 M8=,Vx
movlpd 66_0f_13 M8=,Vx
unpcklps np_0f_14 Vx+,Wx:f32 al16
unpcklpd 66_0f_14 Vx+,Wx:f64 al16
unpckhps np_0f_15 Vx+,Wx:f32 al16
unpckhpd 66_0f_15 Vx+,Wx:f64 al16
movhps np_0f_16 Vx+,M8:f32
movlhps np_0f_16 Vx+,Ux
movhpd 66_0f_16 Vx+,M8:f64
movshdup f3_0f_16 Vx=,Wx:f32 al16
movhps np_0f_17 M8=,Vx
movhpd 66_0f_17 M8=,Vx
movaps np_0f_28 Vx=,Wx:f32 al16
movapd 66_0f_28 Vx=,Wx:f64 al16
movaps np_0f_29 Wx=,Vx  al16
movapd 66_0f_29 Wx=,Vx  al16
movntps np_0f_2b Mx=,Vx al16
movntpd 66_0f_2b Mx=,Vx al16
movmskps np_0f_50 Gd=,Ux
movmskpd 66_0f_50 Gd=,Ux
movd  np_0f_6e Pq=,Ey
movd  66_0f_6e Vx=,Ey
movd  np_0f_7e Ey=,Pq
movd  66_0f_7e Ey=,Vx
movq  f3_0f_7e Vx=,W8:f64
movq  66_0f_d6 W8=,Vx
movq  np_0f_6f Pq=,Qq
movdqa 66_0f_6f Vx=,Wx  al16
movdqu f3_0f_6f Vx=,Wx
movq  np_0f_7f Qq=,Pq
movdqa 66_0f_7f Wx=,Vx  al16
movdqu f3_0f_7f Wx=,Vx
movq2dq f3_0f_d6 Vx=,Nq
movdq2q f2_0f_d6 Pq=,Ux
movntq np_0f_e7 M8=,Pq
movntdq 66_0f_e7 Mx=,Vx al16
lddqu f2_0f_f0 Vx=,Mx
movntdqa 66_0f38_2a Vx=,Mx al16
maskmovq np_0f_f7 Pq,Nq sp:maskmov
maskmovdqu 66_0f_f7 Vx,Ux sp:maskmov
pmovmskb np_0f_d7 Gd=,Nq
pmovmskb 66_0f_d7 Gd=,Ux
# ---- conversions ---------------------------------------------------------------------------------------------------------
cvtpi2ps np_0f_2a Vx+,Qq
cvtpi2pd 66_0f_2a Vx=,Qq
cvtsi2ss f3_0f_2a Vx+,Ey
cvtsi2sd f2_0f_2a Vx+,Ey
cvttps2pi np_0f_2c Pq=,W8:f32
cvttpd2pi 66_0f_2c Pq=,Wx:f64 al16
cvttss2si f3_0f_2c Gy=,W4:f32
cvttsd2si f2_0f_2c Gy=,W8:f64
cvtps2pi np_0f_2d Pq=,W8:f32
cvtpd2pi 66_0f_2d Pq=,Wx:f64 al16
cvtss2si f3_0f_2d Gy=,W4:f32
cvtsd2si f2_0f_2d Gy=,W8:f64
cvtps2pd np_0f_5a Vx=,W8:f32
cvtpd2ps 66_0f_5a Vx=,Wx:f64 al16
cvtss2sd f3_0f_5a Vx+,W4:f32
cvtsd2ss f2_0f_5a Vx+,W8:f64
cvtdq2ps np_0f_5b Vx=,Wx al16
cvtps2dq 66_0f_5b Vx=,Wx:f32 al16
cvttps2dq f3_0f_5b Vx=,Wx:f32 al16
cvttpd2dq 66_0f_e6 Vx=,Wx:f64 al16
cvtdq2pd f3_0f_e6 Vx=,W8
cvtpd2dq f2_0f_e6 Vx=,Wx:f64 al16
# ---- arithmetic -----------------------------------------------------------------------------------------------------------
ucomiss np_0f_2e Vx,W4:f32 m:oszapc
ucomisd 66_0f_2e Vx,W8:f64 m:oszapc
comiss np_0f_2f Vx,W4:f32 m:oszapc
comisd 66_0f_2f Vx,W8:f64 m:oszapc
fparith 0f_51
rsqrtps np_0f_52 Vx=,Wx:f32 al16 sp:approx
rsqrtss f3_0f_52 Vx+,W4:f32 sp:approx
rcpps np_0f_53 Vx=,Wx:f32 al16 sp:approx
rcpss f3_0f_53 Vx+,W4:f32 sp:approx
andps np_0f_54 Vx+,Wx:f32 al16
andpd 66_0f_54 Vx+,Wx:f64 al16
andnps np_0f_55 Vx+,Wx:f32 al16
andnpd 66_0f_55 Vx+,Wx:f64 al16
orps  np_0f_56 Vx+,Wx:f32 al16
orpd  66_0f_56 Vx+,Wx:f64 al16
xorps np_0f_57 Vx+,Wx:f32 al16
xorpd 66_0f_57 Vx+,Wx:f64 al16
fparith 0f_58
fparith 0f_59
fparith 0f_5c
fparith 0f_5d
fparith 0f_5e
fparith 0f_5f
cmpps np_0f_c2 Vx+,Wx:f32,Ib al16
cmppd 66_0f_c2 Vx+,Wx:f64,Ib al16
cmpss f3_0f_c2 Vx+,W4:f32,Ib
cmpsd f2_0f_c2 Vx+,W8:f64,Ib
shufps np_0f_c6 Vx+,Wx:f32,Ib al16
shufpd 66_0f_c6 Vx+,Wx:f64,Ib al16
haddpd 66_0f_7c Vx+,Wx:f64 al16
haddps f2_0f_7c Vx+,Wx:f32 al16
hsubpd 66_0f_7d Vx+,Wx:f64 al16
hsubps f2_0f_7d Vx+,Wx:f32 al16
addsubpd 66_0f_d0 Vx+,Wx:f64 al16
addsubps f2_0f_d0 Vx+,Wx:f32 al16
# ---- MMX and SSE integer (`simd`: the np form on MMX, the 66 form on XMM) ---------------------------------------------------
simd  0f_60 low
simd  0f_61 low
simd  0f_62 low
simd  0f_63
simd  0f_64
simd  0f_65
simd  0f_66
simd  0f_67
simd  0f_68
simd  0f_69
simd  0f_6a
simd  0f_6b
punpcklqdq 66_0f_6c Vx+,Wx al16
punpckhqdq 66_0f_6d Vx+,Wx al16
pshufw np_0f_70 Pq=,Qq,Ib
pshufd 66_0f_70 Vx=,Wx,Ib al16
pshufhw f3_0f_70 Vx=,Wx,Ib al16
pshuflw f2_0f_70 Vx=,Wx,Ib al16
simdsh 0f_71/2
simdsh 0f_71/4
simdsh 0f_71/6
simdsh 0f_72/2
simdsh 0f_72/4
simdsh 0f_72/6
simdsh 0f_73/2
simdsh 0f_73/6
psrldq 66_0f_73/3 Ux+,Ib
pslldq 66_0f_73/7 Ux+,Ib
simd  0f_74
simd  0f_75
simd  0f_76
emms  np_0f_77 -
pinsrw np_0f_c4 Pq+,Ed2,Ib
pinsrw 66_0f_c4 Vx+,Ed2,Ib
pextrw np_0f_c5 Gd=,Nq,Ib
pextrw 66_0f_c5 Gd=,Ux,Ib
simd  0f_d1
simd  0f_d2
simd  0f_d3
simd  0f_d4
simd  0f_d5
simd  0f_d8
simd  0f_d9
simd  0f_da
simd  0f_db
simd  0f_dc
simd  0f_dd
simd  0f_de
simd  0f_df
simd  0f_e0
simd  0f_e1
simd  0f_e2
simd  0f_e3
simd  0f_e4
simd  0f_e5
simd  0f_e8
simd  0f_e9
simd  0f_ea
simd  0f_eb
simd  0f_ec
simd  0f_ed
simd  0f_ee
simd  0f_ef
simd  0f_f1
simd  0f_f2
simd  0f_f3
simd  0f_f4
simd  0f_f5
simd  0f_f6
simd  0f_f8
simd  0f_f9
simd  0f_fa
simd  0f_fb
simd  0f_fc
simd  0f_fd
simd  0f_fe
# ---- 0F 38: SSSE3, SSE4.1, SSE4.2 -------------------------------------------------------------------------------------------
simd  0f38_00
simd  0f38_01
simd  0f38_02
simd  0f38_03
simd  0f38_04
simd  0f38_05
simd  0f38_06
simd  0f38_07
simd  0f38_08
simd  0f38_09
simd  0f38_0a
simd  0f38_0b
pblendvb 66_0f38_10 Vx+,Wx al16
blendvps 66_0f38_14 Vx+,Wx:f32 al16
blendvpd 66_0f38_15 Vx+,Wx:f64 al16
ptest 66_0f38_17 Vx,Wx  m:oszapc al16
simd  0f38_1c =
simd  0f38_1d =
simd  0f38_1e =
pmovsxbw 66_0f38_20 Vx=,W8
pmovsxbd 66_0f38_21 Vx=,W4
pmovsxbq 66_0f38_22 Vx=,W2
pmovsxwd 66_0f38_23 Vx=,W8
pmovsxwq 66_0f38_24 Vx=,W4
pmovsxdq 66_0f38_25 Vx=,W8
pmuldq 66_0f38_28 Vx+,Wx al16
pcmpeqq 66_0f38_29 Vx+,Wx al16
packusdw 66_0f38_2b Vx+,Wx al16
pmovzxbw 66_0f38_30 Vx=,W8
pmovzxbd 66_0f38_31 Vx=,W4
pmovzxbq 66_0f38_32 Vx=,W2
pmovzxwd 66_0f38_33 Vx=,W8
pmovzxwq 66_0f38_34 Vx=,W4
pmovzxdq 66_0f38_35 Vx=,W8
pcmpgtq 66_0f38_37 Vx+,Wx al16
pminsb 66_0f38_38 Vx+,Wx al16
pminsd 66_0f38_39 Vx+,Wx al16
pminuw 66_0f38_3a Vx+,Wx al16
pminud 66_0f38_3b Vx+,Wx al16
pmaxsb 66_0f38_3c Vx+,Wx al16
pmaxsd 66_0f38_3d Vx+,Wx al16
pmaxuw 66_0f38_3e Vx+,Wx al16
pmaxud 66_0f38_3f Vx+,Wx al16
pmulld 66_0f38_40 Vx+,Wx al16
phminposuw 66_0f38_41 Vx=,Wx al16
# ---- 0F 3A ---------------------------------------------------------------------------------------------------------------------
roundps 66_0f3a_08 Vx=,Wx:f32,Ib al16
roundpd 66_0f3a_09 Vx=,Wx:f64,Ib al16
roundss 66_0f3a_0a Vx+,W4:f32,Ib
roundsd 66_0f3a_0b Vx+,W8:f64,Ib
blendps 66_0f3a_0c Vx+,Wx:f32,Ib al16
blendpd 66_0f3a_0d Vx+,Wx:f64,Ib al16
pblendw 66_0f3a_0e Vx+,Wx,Ib al16
palignr np_0f3a_0f Pq+,Qq,Ib
palignr 66_0f3a_0f Vx+,Wx,Ib al16
pextrb 66_0f3a_14 Ed1=,Vx,Ib
pextrw 66_0f3a_15 Ed2=,Vx,Ib
pextrd 66_0f3a_16 Ey=,Vx,Ib
extractps 66_0f3a_17 Ed=,Vx,Ib
pinsrb 66_0f3a_20 Vx+,Ed1,Ib
insertps 66_0f3a_21 Vx+,W4:f32,Ib
pinsrd 66_0f3a_22 Vx+,Ey,Ib
dpps  66_0f3a_40 Vx+,Wx:f32,Ib al16
dppd  66_0f3a_41 Vx+,Wx:f64,Ib al16
mpsadbw 66_0f3a_42 Vx+,Wx,Ib al16
pcmpestrm 66_0f3a_60 Vx,Wx,Ib m:oszapc
pcmpestri 66_0f3a_61 Vx,Wx,Ib m:oszapc w:rcx
pcmpistrm 66_0f3a_62 Vx,Wx,Ib m:oszapc
pcmpistri 66_0f3a_63 Vx,Wx,Ib m:oszapc w:rcx
# ---- state, fences ----------------------------------------------------------------------------------------------------------------
fxsave np_0f_ae/0 Mfx=  al16 w0 sp:fx
fxrstor np_0f_ae/1 Mfx  al16 w0 sp:fx
fxsave64 np_0f_ae/0 Mfx= al16 w1 sp:fx
fxrstor64 np_0f_ae/1 Mfx al16 w1 sp:fx
ldmxcsr np_0f_ae/2 M4   sp:ldmxcsr
stmxcsr np_0f_ae/3 M4=
clflush np_0f_ae/7 M1
lfence np_0f_ae=e8 -
mfence np_0f_ae=f0 -
sfence np_0f_ae=f8 -
# ---- undefined ----------------------------------------------------------------------------------------------------------------------
und   66_0f_77 -        ud
und   np_0f_6c Vx,Wx    ud
und   np_0f_d6 Vx,Ux    ud
und   np_0f_d0 Vx,Wx    ud
und   np_0f_13 Vx,Ux    ud
und   np_0f_17 Vx,Ux    ud
und   np_0f_2b Vx,Ux    ud
und   f2_0f_f0 Vx,Ux    ud
und   np_0f_e7 Pq,Nq    ud
und   np_0f_71/0 Nq,Ib  ud
und   66_0f_71/1 Ux,Ib  ud
und   np_0f_73/3 Nq,Ib  ud
und   np_0f38_10 Vx,Ux  ud
und   np_0f38_20 Vx,Ux  ud
und   np_0f38_0c Pq,Nq  ud
und   np_0f3a_08 Vx,Ux  ud
und   66_0f38_2a Vx,Ux  ud
und   np_0f38_f0 Gv,Rv  ud
und   66_0f_e7 Vx,Ux    ud
"""
