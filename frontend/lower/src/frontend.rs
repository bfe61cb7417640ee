//! `# syntax=…`: which frontend a file asks for (decision 8). There is one, and it is built in.

use dockerfile_parser::{Dockerfile, Span};
use oci::Reference;

use crate::lint::{Lint, unnamed};
use crate::{Options, PlanError, PlanErrorKind};

/// The frontends that the built-in one stands for, none of which is ever pulled.
const SERVED: [&str; 2] = [
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];
/// The version whose language is understood.
const NEWEST: (u32, u32) = (1, 26);

/// Whether the frontend that `dockerfile` (or the build-arg `BUILDKIT_SYNTAX`) asks for is the
/// built-in one. [`crate::plan`] asks this first; whoever wants to report what the parser found asks
/// before that, because a file of another language is full of problems.
///
/// # Errors
/// If it is another.
pub fn check_frontend(dockerfile: &Dockerfile, options: &Options) -> Result<(), PlanError> {
    let Some((image, span)) = wanted(dockerfile, options) else {
        return Ok(());
    };
    let is_served = image
        .parse::<Reference>()
        .is_ok_and(|it| SERVED.contains(&it.name().as_str()));
    match (is_served, span) {
        (true, _) => Ok(()),
        (false, Some(span)) => Err(PlanError::at(
            span,
            PlanErrorKind::Frontend(image.to_owned()),
        )),
        (false, None) => Err(PlanError::nowhere(PlanErrorKind::Frontend(
            image.to_owned(),
        ))),
    }
}

/// Warns of a frontend that is newer than what is known here.
pub(crate) fn warn_of_newer(dockerfile: &Dockerfile, options: &Options, lint: &mut Lint) {
    let Some((image, span)) = wanted(dockerfile, options) else {
        return;
    };
    let Ok(reference) = image.parse::<Reference>() else {
        return;
    };
    if reference
        .tag()
        .and_then(version)
        .is_some_and(|it| it > NEWEST)
    {
        let (major, minor) = NEWEST;
        let message = format!(
            "The file asks for {image}; the built-in frontend knows the language of version {major}.{minor}"
        );
        lint.push(unnamed(message, span));
    }
}

/// Whether the file asks for what is not part of the stable language: `# syntax=docker/dockerfile:1-labs`.
pub(crate) fn is_labs(dockerfile: &Dockerfile, options: &Options) -> bool {
    wanted(dockerfile, options).is_some_and(|(image, _)| {
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        tag == "labs" || tag.ends_with("-labs")
    })
}

fn wanted<'a>(dockerfile: &'a Dockerfile, options: &'a Options) -> Option<(&'a str, Option<Span>)> {
    let given = options
        .build_args
        .get("BUILDKIT_SYNTAX")
        .map(|it| (it.as_str(), None));
    let written = dockerfile
        .directives
        .syntax
        .as_ref()
        .map(|(image, span)| (image.as_str(), Some(*span)));
    // What stands behind a blank is the frontend's command line.
    let wanted = given.or(written)?;
    let image = wanted.0.split_whitespace().next()?;
    Some((image, wanted.1))
}

/// Major and minor version in a tag such as `1`, `1.7`, `1.7.1-labs`.
fn version(tag: &str) -> Option<(u32, u32)> {
    let numbers = tag.split('-').next()?;
    let mut parts = numbers.split('.').map(|it| it.parse::<u32>().ok());
    let major = parts.next()??;
    Some((major, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn tags_have_versions() {
        let table = [
            ("1", Some((1, 0))),
            ("1.7", Some((1, 7))),
            ("1.27.0-labs", Some((1, 27))),
            ("labs", None),
            ("master", None),
        ];
        for (tag, expected) in table {
            assert_eq!(version(tag), expected, "{tag}");
        }
    }
}
