//! `EXPOSE`: ports that a container listens on (G15).

use std::collections::BTreeSet;

use oci::config::Empty;

use crate::lint::rule;
use crate::lowering::Lowering;
use crate::scope::Expander;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, go};

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    ports: &[String],
) -> Result<(), PlanError> {
    let mut found = BTreeSet::new();
    for word in ports {
        let expanded = Expander {
            env: &state.env,
            escape: step.escape,
        }
        .words(word)
        .map_err(|error| PlanError::at(step.span, PlanErrorKind::Expand(error)))?;
        for name in &expanded.unset {
            lowering.lint.undefined_var(name, state, step);
        }
        for port in &expanded.words {
            rule::expose_invalid_format(&mut lowering.lint, step, port);
            rule::expose_proto_casing(&mut lowering.lint, step, port);
            found.extend(parse(port).map_err(|kind| PlanError::at(step.span, kind))?);
        }
    }
    let ports: Vec<String> = found
        .into_iter()
        .map(|(number, protocol)| format!("{number}/{protocol}"))
        .collect();
    state.note(format!("EXPOSE {}", go::list(&ports)));
    state
        .image
        .config
        .exposed_ports
        .extend(ports.into_iter().map(|it| (it, Empty {})));
    Ok(())
}

/// The container's ports in `[[ip:]host:]port[-port][/protocol]`.
fn parse(text: &str) -> Result<Vec<(u16, String)>, PlanErrorKind> {
    let (address, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => return Err(PlanErrorKind::Protocol(other.to_owned())),
    };
    let (outside, container) = address
        .rsplit_once(':')
        .map_or((None, address), |(it, port)| (Some(it), port));
    let ports = range(container).ok_or_else(|| PlanErrorKind::Port(container.to_owned()))?;
    if let Some(outside) = outside {
        check_host(outside, &ports).ok_or_else(|| PlanErrorKind::PortRange(text.to_owned()))?;
    }
    Ok(ports.map(|it| (it, protocol.clone())).collect())
}

/// What stands in front of the container's port has no effect, but must make sense.
fn check_host(outside: &str, container: &std::ops::RangeInclusive<u16>) -> Option<()> {
    let (ip, host) = outside
        .rsplit_once(':')
        .map_or((None, outside), |(ip, host)| (Some(ip), host));
    if let Some(ip) = ip.filter(|it| !it.is_empty()) {
        let bare = ip
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(ip);
        bare.parse::<std::net::IpAddr>().ok()?;
    }
    if host.is_empty() {
        return Some(());
    }
    let host = range(host)?;
    (container.len() == 1 || host.len() == container.len()).then_some(())
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |text: &str| {
        text.bytes()
            .all(|it| it.is_ascii_digit())
            .then(|| text.parse::<u16>().ok())
            .flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn check(text: &str, expected: &str) {
        let shown = match parse(text) {
            Ok(ports) => ports
                .iter()
                .map(|(port, protocol)| format!("{port}/{protocol}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn ports_have_ranges_and_protocols() {
        check("80", "80/tcp");
        check("80/UDP", "80/udp");
        check("8000-8002/sctp", "8000/sctp 8001/sctp 8002/sctp");
        check("127.0.0.1:80:8080", "8080/tcp");
        check("[::1]::53/udp", "53/udp");
        check("8000-8010:80", "80/tcp");
    }

    #[test]
    fn what_is_no_port_is_refused() {
        check(
            "",
            "invalid containerPort:  (a port is a number up to 65535, or a range such as 8000-8010)",
        );
        check(
            "http",
            "invalid containerPort: http (a port is a number up to 65535, or a range such as 8000-8010)",
        );
        check(
            "65536",
            "invalid containerPort: 65536 (a port is a number up to 65535, or a range such as 8000-8010)",
        );
        check(
            "90-80",
            "invalid containerPort: 90-80 (a port is a number up to 65535, or a range such as 8000-8010)",
        );
        check("80/icmp", "invalid proto: icmp (it is tcp, udp or sctp)");
        check(
            "1-2:3-5",
            "invalid ranges specified for container and host Ports: 1-2:3-5",
        );
        check(
            "host:1:2",
            "invalid ranges specified for container and host Ports: host:1:2",
        );
    }
}
