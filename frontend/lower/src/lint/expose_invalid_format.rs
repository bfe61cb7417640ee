//! `EXPOSE 127.0.0.1:80:80`: whoever runs the image decides about addresses and the host's ports.

use super::Lint;
use crate::state::Step;

pub(crate) fn expose_invalid_format(lint: &mut Lint, step: &Step<'_>, port: &str) {
    if port.contains(':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        lint.warn("ExposeInvalidFormat", step.span, message);
    }
}
