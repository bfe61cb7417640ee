//! The base image is for another platform than the build (G31).

use dockerfile_parser::quote;
use oci::Platform;

use super::Lint;
use crate::stage::Declared;

pub(crate) fn invalid_base_image_platform(
    lint: &mut Lint,
    stage: &Declared<'_>,
    image: &str,
    found: &Platform,
    expected: &Platform,
) {
    // BuildKit lets variants be: arm/v6 runs on arm/v7.
    if (&found.os, &found.architecture) == (&expected.os, &expected.architecture) {
        return;
    }
    let (found, expected) = (quote(&found.to_string()), quote(&expected.to_string()));
    let message = format!(
        "Base image {image} was pulled with platform {found}, expected {expected} for current build"
    );
    lint.warn("InvalidBaseImagePlatform", stage.from.span, message);
}
