//! `ENV API_TOKEN=…`: whoever has the image has the secret (G43).

use dockerfile_parser::quote;

use super::Lint;
use crate::state::Step;

const SECRETS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(crate) fn secrets_used_in_arg_or_env(
    lint: &mut Lint,
    step: &Step<'_>,
    keyword: &str,
    name: &str,
) {
    if is_secret(name) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({keyword} {})",
            quote(name)
        );
        lint.warn("SecretsUsedInArgOrEnv", step.span, message);
    }
}

/// Whether a variable of this name holds a secret, judged by the words between its `_`.
pub(crate) fn is_secret(name: &str) -> bool {
    let has = |words: &[&str]| {
        name.split('_')
            .any(|part| words.iter().any(|it| it.eq_ignore_ascii_case(part)))
    };
    has(&SECRETS) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_are_known_by_their_words() {
        for name in [
            "TOKEN",
            "api_key",
            "DB_PASSWORD",
            "GIT_AUTH_TOKEN",
            "apikey",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "KEYBOARD",
            "PUBLIC_KEY",
            "TOKEN_FILE",
            "SECRETARY",
            "KEY_VERSION",
            "",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
