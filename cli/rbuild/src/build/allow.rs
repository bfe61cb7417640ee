//! `--allow`: which walls a Dockerfile may take down.

use engine::Allowed;

use crate::fault::Fault;

/// What `texts` allow. Whoever says `--network host` has allowed that, too.
pub(crate) fn allowed(texts: &[String], network: llb::op::Network) -> Result<Allowed, Fault> {
    let mut allowed = Allowed {
        network_host: network == llb::op::Network::Host,
        ..Allowed::default()
    };
    for text in texts {
        match text.as_str() {
            "network.host" => allowed.network_host = true,
            "security.insecure" => allowed.security_insecure = true,
            // No step has a device; the Dockerfile's own line is refused where it asks for one.
            "device" => {}
            text if text.starts_with("device=") => {}
            _ => {
                return Err(
                    Fault::usage(format!("`--allow {text}`: unknown entitlement"))
                        .hint("known are network.host, security.insecure and device"),
                );
            }
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use llb::op::Network;

    use super::*;

    #[test]
    fn entitlements_are_bks() {
        let read = |texts: &[&str], network| {
            let texts: Vec<String> = texts.iter().map(|it| (*it).to_owned()).collect();
            match allowed(&texts, network) {
                Ok(it) => format!("{} {}", it.network_host, it.security_insecure),
                Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
            }
        };
        let default = Network::Default;
        assert_eq!(read(&[], default), "false false");
        assert_eq!(read(&["network.host"], default), "true false");
        assert_eq!(read(&["security.insecure"], default), "false true");
        assert_eq!(read(&["device=vendor.example/gpu"], default), "false false");
        assert_eq!(read(&[], Network::Host), "true false");
        assert_eq!(
            read(&["network"], default),
            "error: `--allow network`: unknown entitlement"
        );
    }
}
