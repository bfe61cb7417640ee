//! `EXPOSE 80/TCP`: protocols are written in lower case.

use super::Lint;
use crate::state::Step;

pub(crate) fn expose_proto_casing(lint: &mut Lint, step: &Step<'_>, port: &str) {
    let Some((_, protocol)) = port.split_once('/') else {
        return;
    };
    if protocol.to_lowercase() != protocol {
        let message =
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        lint.warn("ExposeProtoCasing", step.span, message);
    }
}
