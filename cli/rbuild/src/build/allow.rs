//! `--allow`: which walls a Dockerfile may take down.

use engine::{Allowed, Devices};

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
            "device" => allowed.devices = Devices::All,
            text if text.starts_with("device=") => {
                allow_device(&mut allowed.devices, &text["device=".len()..])?;
            }
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

/// `NAME[,alias=ALIAS]`: the device, and what Dockerfiles may call it instead.
fn allow_device(devices: &mut Devices, text: &str) -> Result<(), Fault> {
    let (name, alias) = match text.split_once(",alias=") {
        Some((name, alias)) => (name, alias),
        None => (text, text),
    };
    let is_name = |it: &str| it.contains('/') && !it.contains(',');
    if !is_name(name) || !is_name(alias) {
        return Err(Fault::usage(format!(
            "`--allow device={text}`: a device is called VENDOR/CLASS or VENDOR/CLASS=NAME"
        ))
        .hint("write --allow device, --allow device=NAME or --allow device=NAME,alias=NAME"));
    }
    devices.add(alias, name);
    Ok(())
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
                Ok(it) => match it.devices {
                    Devices::None => format!("{} {}", it.network_host, it.security_insecure),
                    devices => format!("{devices:?}"),
                },
                Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
            }
        };
        let default = Network::Default;
        assert_eq!(read(&[], default), "false false");
        assert_eq!(read(&["network.host"], default), "true false");
        assert_eq!(read(&["security.insecure"], default), "false true");
        let named = "Named({\"v/gpu\": \"v/gpu\", \"v/x=1\": \"v/y=2\"})";
        assert_eq!(
            read(&["device=v/gpu", "device=v/y=2,alias=v/x=1"], default),
            named
        );
        assert_eq!(read(&["device=v/gpu", "device"], default), "All");
        assert_eq!(
            read(&["device=gpu"], default),
            "error: `--allow device=gpu`: a device is called VENDOR/CLASS or VENDOR/CLASS=NAME"
        );
        assert_eq!(
            read(&["device=v/gpu,alais=v/x"], default),
            "error: `--allow device=v/gpu,alais=v/x`: a device is called VENDOR/CLASS or VENDOR/CLASS=NAME"
        );
        assert_eq!(read(&[], Network::Host), "true false");
        assert_eq!(
            read(&["network"], default),
            "error: `--allow network`: unknown entitlement"
        );
    }
}
