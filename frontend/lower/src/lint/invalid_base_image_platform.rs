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
    let (found, expected) = (quote(&found.to_string()), quote(&expected.to_string()));
    let message = format!(
        "Base image {image} was pulled with platform {found}, expected {expected} for current build"
    );
    lint.warn(
        "InvalidBaseImagePlatform",
        stage.from,
        stage.from.span,
        message,
    );
}
