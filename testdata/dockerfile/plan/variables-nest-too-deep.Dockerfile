FROM scratch AS s0
FROM scratch AS s1
ARG F=s0
COPY --from=$F / /
FROM scratch AS s2
ARG F=s1
COPY --from=$F / /
FROM scratch AS s3
ARG F=s2
COPY --from=$F / /
FROM scratch AS s4
ARG F=s3
COPY --from=$F / /
FROM scratch AS s5
ARG F=s4
COPY --from=$F / /
FROM scratch AS s6
ARG F=s5
COPY --from=$F / /
FROM scratch AS s7
ARG F=s6
COPY --from=$F / /
FROM scratch AS s8
ARG F=s7
COPY --from=$F / /
FROM scratch AS s9
ARG F=s8
COPY --from=$F / /
FROM scratch AS s10
ARG F=s9
COPY --from=$F / /
FROM scratch AS s11
ARG F=s10
COPY --from=$F / /
FROM scratch AS s12
ARG F=s11
COPY --from=$F / /
FROM scratch AS s13
ARG F=s12
COPY --from=$F / /
FROM scratch AS s14
ARG F=s13
COPY --from=$F / /
FROM scratch AS s15
ARG F=s14
COPY --from=$F / /
FROM scratch AS s16
ARG F=s15
COPY --from=$F / /
FROM scratch AS s17
ARG F=s16
COPY --from=$F / /
FROM scratch AS s18
ARG F=s17
COPY --from=$F / /
FROM scratch AS s19
ARG F=s18
COPY --from=$F / /
FROM scratch AS s20
ARG F=s19
COPY --from=$F / /
FROM scratch AS s21
ARG F=s20
COPY --from=$F / /
FROM scratch AS s22
ARG F=s21
COPY --from=$F / /
FROM scratch AS s23
ARG F=s22
COPY --from=$F / /
FROM scratch AS s24
ARG F=s23
COPY --from=$F / /
FROM scratch AS s25
ARG F=s24
COPY --from=$F / /
FROM scratch AS s26
ARG F=s25
COPY --from=$F / /
FROM scratch AS s27
ARG F=s26
COPY --from=$F / /
FROM scratch AS s28
ARG F=s27
COPY --from=$F / /
FROM scratch AS s29
ARG F=s28
COPY --from=$F / /
FROM scratch AS s30
ARG F=s29
COPY --from=$F / /
FROM scratch AS s31
ARG F=s30
COPY --from=$F / /
FROM scratch AS s32
ARG F=s31
COPY --from=$F / /
FROM scratch AS s33
ARG F=s32
COPY --from=$F / /
FROM scratch AS s34
ARG F=s33
COPY --from=$F / /
FROM scratch AS s35
ARG F=s34
COPY --from=$F / /
FROM scratch AS s36
ARG F=s35
COPY --from=$F / /
FROM scratch AS s37
ARG F=s36
COPY --from=$F / /
FROM scratch AS s38
ARG F=s37
COPY --from=$F / /
FROM scratch AS s39
ARG F=s38
COPY --from=$F / /
