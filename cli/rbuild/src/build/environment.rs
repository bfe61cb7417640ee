//! What the environment says of a build. A variable that is set to nothing says nothing.

use clap::ValueEnum as _;
use oci::Platform;

use crate::fault::Fault;
use crate::progress::Mode;

/// Variables that would forbid something: who sets them must not be left to believe that they hold.
const LATER: [&str; 1] = ["EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"];

/// Refuses what would be understood wrongly if it were not heard.
pub(super) fn refuse(variable: impl Fn(&str) -> Option<String>) -> Result<(), Fault> {
    match LATER.iter().find(|name| value(name, &variable).is_some()) {
        Some(name) => Err(Fault::usage(format!("`${name}` is not supported yet"))
            .hint("unset it to build without a source policy")),
        None => Ok(()),
    }
}

/// `BUILDKIT_PROGRESS`: how a build is shown that does not say.
pub(super) fn mode(variable: impl Fn(&str) -> Option<String>) -> Result<Mode, Fault> {
    const NAME: &str = "BUILDKIT_PROGRESS";
    let Some(text) = value(NAME, variable) else {
        return Ok(Mode::Auto);
    };
    Mode::from_str(&text, false).map_err(|_| {
        Fault::usage(format!(
            "`${NAME}` is `{text}`: it is auto, tty, plain, quiet, rawjson or none"
        ))
    })
}

/// `DOCKER_DEFAULT_PLATFORM`: what is built for where nothing is said, or which image is chosen.
pub(crate) fn platform(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Platform>, Fault> {
    const NAME: &str = "DOCKER_DEFAULT_PLATFORM";
    let parse = |text: String| {
        text.parse()
            .map_err(|error| Fault::usage(format!("`${NAME}`: {error}")))
    };
    value(NAME, variable).map(parse).transpose()
}

fn value(name: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    variable(name).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_says_nothing_and_what_is_wrong_is_told_by_its_name() {
        let set = |value: &str| {
            let value = value.to_owned();
            move |_: &str| Some(value.clone())
        };
        assert_eq!(mode(|_| None).unwrap(), Mode::Auto);
        assert_eq!(mode(set("")).unwrap(), Mode::Auto);
        assert_eq!(mode(set("rawjson")).unwrap(), Mode::Rawjson);
        assert_eq!(
            mode(set("loud")).unwrap_err().words(),
            "error: `$BUILDKIT_PROGRESS` is `loud`: it is auto, tty, plain, quiet, rawjson or none\n"
        );
        assert_eq!(platform(set("")).unwrap(), None);
        assert_eq!(
            platform(set("linux/aarch64")).unwrap(),
            Some(Platform::new("linux", "arm64", None))
        );
        let said = platform(set("a/b/c/d")).unwrap_err().words();
        assert!(
            said.starts_with("error: `$DOCKER_DEFAULT_PLATFORM`: "),
            "{said}"
        );
        assert!(refuse(set("")).is_ok());
        assert!(refuse(set("policy.json")).is_err());
    }
}
