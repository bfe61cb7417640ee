#= --build-context base=oci-layout://nowhere
FROM base
