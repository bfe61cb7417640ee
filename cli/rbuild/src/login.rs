//! `login` and `logout`: who we are for a registry, kept where docker keeps it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use registry::{Client, Credential, Credentials as _, DockerConfig, Kept};
use rustix::termios::{self, LocalModes, OptionalActions};

use crate::args::{LoginArgs, LogoutArgs};
use crate::fault::Fault;
use crate::output::print;
use crate::progress::terminal::say;
use crate::registries;

/// The registry that is meant where none is named.
const HUB: &str = "docker.io";
/// The longest password that is read.
const MAX_PASSWORD: u64 = 64 << 10;

/// Has the registry say whether it knows us, then keeps how it does.
pub(crate) fn login(args: &LoginArgs) -> Result<(), Fault> {
    let registry = registry_of(args.server.as_deref())?;
    if args.password.is_some() && args.password_stdin {
        return Err(Fault::usage(
            "conflicting options: cannot specify both --password and --password-stdin",
        ));
    }
    if args.password_stdin && args.username.is_none() {
        return Err(Fault::usage(
            "the --password-stdin option requires --username to be set",
        ));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", Echo::On)?,
    };
    let password = match &args.password {
        Some(password) => {
            say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
            password.clone()
        }
        None if args.password_stdin => piped()?,
        None => ask("Password: ", Echo::Off)?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Fault::usage("a user name and a password are needed"));
    }
    let credential = Credential::Password { user, password };
    let mut settings = registries::settings()?;
    for registry in &args.insecure {
        settings.allow_insecure(registry);
    }
    Client::new(settings, Box::new(())).log_in(&registry, &credential)?;
    if let Kept::File(path) = DockerConfig.keep(&registry, &credential)? {
        let path = path.display();
        say(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{path}'.\nConfigure a credential helper (`credsStore`) to remove this warning.\n\n"
        ));
    }
    Ok(print("Login Succeeded\n")?)
}

/// Forgets who we are for a registry.
pub(crate) fn logout(args: &LogoutArgs) -> Result<(), Fault> {
    let registry = registry_of(args.server.as_deref())?;
    let is_known = DockerConfig.find(&registry).ok().flatten().is_some();
    if !is_known && !DockerConfig.forget(&registry)? {
        return Ok(print(&format!("Not logged in to {registry}\n"))?);
    }
    print(&format!("Removing login credentials for {registry}\n"))?;
    DockerConfig.forget(&registry)?;
    if DockerConfig.find(&registry).ok().flatten().is_some() {
        say(&format!(
            "warning: there are credentials for {registry} in another place, as podman's `auth.json`\n"
        ));
    }
    Ok(())
}

/// `https://host/v1/` means `host`, as it always has.
fn registry_of(server: Option<&str>) -> Result<String, Fault> {
    let Some(server) = server.filter(|it| !it.is_empty()) else {
        return Ok(HUB.to_owned());
    };
    let rest = server
        .strip_prefix("https://")
        .or(server.strip_prefix("http://"));
    let host = rest.unwrap_or(server).split('/').next().unwrap_or_default();
    // Whatever an image's name may begin with.
    let is_host = format!("{host}/x").parse::<oci::Reference>().is_ok();
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => Ok(HUB.to_owned()),
        _ if is_host && !host.is_empty() => Ok(host.to_owned()),
        _ => Err(Fault::usage(format!("`{server}` is no registry"))),
    }
}

/// The password that comes through a pipe, without the line's end.
fn piped() -> Result<String, Fault> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_PASSWORD)
        .read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// Asks the person.
fn ask(question: &str, echo: Echo) -> Result<String, Fault> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Fault::usage("cannot perform an interactive login from a non TTY device").hint(
                "give the name with -u, and the password through a pipe with --password-stdin",
            ),
        );
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    if echo == Echo::On {
        stdin.read_line(&mut answer)?;
    } else {
        let hidden = without_echo(|| stdin.read_line(&mut answer));
        writeln!(stderr)?;
        hidden?;
    }
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

/// Does something while the terminal shows nothing of what is typed.
fn without_echo<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = termios::tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent
        .local_modes
        .insert(LocalModes::ICANON | LocalModes::ISIG);
    termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
    let read = read();
    termios::tcsetattr(io::stdin(), OptionalActions::Flush, &before)?;
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_in_many_ways() {
        let table = [
            (None, Some("docker.io")),
            (Some("https://index.docker.io/v1/"), Some("docker.io")),
            (Some("localhost:5000"), Some("localhost:5000")),
            (Some("http://reg.lan:80/v2/"), Some("reg.lan:80")),
            (Some("https://"), None),
            (Some("a b"), None),
        ];
        for (server, registry) in table {
            assert_eq!(registry_of(server).ok().as_deref(), registry, "{server:?}");
        }
    }
}
