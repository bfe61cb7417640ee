//! What a container runs and which variables it sees: the image's, then the request's.

use crate::Request;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command and its arguments, or `None` where nobody names one.
///
/// As docker: an entry point of the request takes away the image's `CMD`, arguments replace it.
pub(crate) fn command(request: &Request) -> Option<Vec<String>> {
    let config = &request.config.config;
    let (entrypoint, default) = match &request.entrypoint {
        Some(entrypoint) => (Some(entrypoint), None),
        None => (config.entrypoint.as_ref(), config.cmd.as_ref()),
    };
    let mut command = entrypoint.cloned().unwrap_or_default();
    // `--entrypoint ""` takes the image's away and names none.
    command.retain(|it| !it.is_empty() || request.entrypoint.is_none());
    if request.args.is_empty() {
        command.extend(default.into_iter().flatten().cloned());
    } else {
        command.extend(request.args.iter().cloned());
    }
    (!command.is_empty()).then_some(command)
}

/// The whole environment: what every container has, the image's variables, the request's.
pub(crate) fn environment(request: &Request, hostname: &str, home: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if request.tty {
        env.push("TERM=xterm".to_owned());
    }
    for variable in request.config.config.env.iter().chain(&request.env) {
        set(&mut env, variable);
    }
    if !env.iter().any(|it| name(it) == "HOME") {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Sets a variable where it stands, or at the end.
fn set(env: &mut Vec<String>, variable: &str) {
    match env.iter_mut().find(|it| name(it) == name(variable)) {
        Some(there) => variable.clone_into(there),
        None => env.push(variable.to_owned()),
    }
}

fn name(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use oci::{Digest, ImageConfig};

    use super::*;
    use crate::Network;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn request(entrypoint: Option<&str>, cmd: Option<&str>) -> Request {
        let mut config = ImageConfig::default();
        config.config.entrypoint = entrypoint.map(words);
        config.config.cmd = cmd.map(words);
        Request {
            image: "image".to_owned(),
            image_id: Digest::of(b"image"),
            config,
            top: None,
            args: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            hostname: None,
            volumes: Vec::new(),
            name: None,
            network: Network::None,
            extra_hosts: BTreeMap::new(),
            shm_size: None,
            limits: sandbox::Limits::default(),
            read_only: false,
            tty: false,
            interactive: false,
            remove: true,
        }
    }

    fn check(
        image: (Option<&str>, Option<&str>),
        asked: (Option<&str>, &str),
        expected: Option<&str>,
    ) {
        let mut request = request(image.0, image.1);
        request.entrypoint = asked.0.map(|it| {
            if it.is_empty() {
                vec![String::new()]
            } else {
                words(it)
            }
        });
        request.args = words(asked.1);
        assert_eq!(
            command(&request),
            expected.map(words),
            "{image:?} {asked:?}"
        );
    }

    #[test]
    fn commands_come_together_as_docker_puts_them() {
        check((Some("e"), Some("c")), (None, ""), Some("e c"));
        check((Some("e"), Some("c")), (None, "a b"), Some("e a b"));
        check((Some("e"), Some("c")), (Some("x"), ""), Some("x"));
        check((Some("e"), Some("c")), (Some("x"), "a"), Some("x a"));
        check((Some("e"), Some("c")), (Some(""), "a"), Some("a"));
        check((Some("e"), Some("c")), (Some(""), ""), None);
        check((None, Some("c d")), (None, ""), Some("c d"));
        check((None, None), (None, ""), None);
        check((None, None), (None, "a"), Some("a"));
    }

    #[test]
    fn later_variables_win_and_stay_where_they_were() {
        let mut request = request(None, None);
        request.config.config.env =
            vec!["PATH=/image".to_owned(), "A=1".to_owned(), "B=2".to_owned()];
        request.env = vec!["A=3".to_owned(), "C=4".to_owned()];
        let expected = [
            "PATH=/image",
            "HOSTNAME=h",
            "A=3",
            "B=2",
            "C=4",
            "HOME=/home",
        ];
        assert_eq!(environment(&request, "h", "/home"), expected);
        request.tty = true;
        request.env = vec!["HOME=/mine".to_owned()];
        let expected = [
            "PATH=/image",
            "HOSTNAME=h",
            "TERM=xterm",
            "A=1",
            "B=2",
            "HOME=/mine",
        ];
        assert_eq!(environment(&request, "h", "/home"), expected);
    }
}
