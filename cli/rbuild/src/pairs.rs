//! The lists of `build` and `run`: variables, labels, hosts.

use std::collections::BTreeMap;

use crate::fault::Fault;

/// `--build-arg`: what has no value takes that of the environment's variable, or is left out.
pub(crate) fn build_args(
    texts: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut values = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => return Err(Fault::usage(format!("`--build-arg {text}` has no name"))),
            Some((name, value)) => {
                values.insert(name.to_owned(), value.to_owned());
            }
            None => values.extend(variable(text).map(|value| (text.clone(), value))),
        }
    }
    Ok(values)
}

/// `--label`: what has no value has the empty one.
pub(crate) fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Fault> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Fault::usage(format!("`--label {text}` has no name"))),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    texts.iter().map(pair).collect()
}

/// `--add-host`: `HOST:ADDRESS` or `HOST=ADDRESS`, IPv6 with or without brackets.
pub(crate) fn hosts(texts: &[String]) -> Result<BTreeMap<String, String>, Fault> {
    texts.iter().map(|text| host(text)).collect()
}

fn host(text: &str) -> Result<(String, String), Fault> {
    let wrong = |why: &str| Fault::usage(format!("`--add-host {text}`: {why}"));
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| wrong("write it as HOST:ADDRESS"))?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong("that is no host name"));
    }
    if address == "host-gateway" {
        return Ok((host.to_owned(), address.to_owned()));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(address);
    let address: std::net::IpAddr = bare
        .parse()
        .map_err(|_| wrong(&format!("`{address}` is no address")))?;
    Ok((host.to_owned(), address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(fault) => fault.words().trim_end().to_owned(),
        }
    }

    #[test]
    fn a_build_arg_without_value_comes_from_the_environment() {
        let variable = |name: &str| (name == "SET").then(|| "yes".to_owned());
        let args = |texts: &[&str]| {
            shown(build_args(
                &texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(),
                variable,
            ))
        };
        assert_eq!(
            args(&["A=1", "B=", "C=a=b", "SET", "UNSET"]),
            r#"{"A": "1", "B": "", "C": "a=b", "SET": "yes"}"#
        );
        assert_eq!(args(&["=x"]), "error: `--build-arg =x` has no name");
    }

    #[test]
    fn hosts_have_addresses() {
        let table = [
            ("a:10.0.0.1", r#"{"a": "10.0.0.1"}"#),
            ("a=10.0.0.1", r#"{"a": "10.0.0.1"}"#),
            ("a:::1", r#"{"a": "::1"}"#),
            ("a=[::1]", r#"{"a": "::1"}"#),
            ("a:host-gateway", r#"{"a": "host-gateway"}"#),
            ("a", "error: `--add-host a`: write it as HOST:ADDRESS"),
            (
                ":1.2.3.4",
                "error: `--add-host :1.2.3.4`: that is no host name",
            ),
            ("a:b", "error: `--add-host a:b`: `b` is no address"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(hosts(&[text.to_owned()])), expected);
        }
    }

    #[test]
    fn labels_may_be_empty() {
        let texts = ["a=1".to_owned(), "b".to_owned()];
        assert_eq!(shown(labels(&texts)), r#"{"a": "1", "b": ""}"#);
    }
}
