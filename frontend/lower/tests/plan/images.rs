//! A handful of images, as a store would know them.

use std::collections::BTreeMap;

use lower::{BaseImage, Images, Layout, ResolveError};
use oci::{Digest, ImageConfig, Platform, Reference};

/// The images that cases build from, by their full names.
pub(crate) struct Shelf(BTreeMap<String, ImageConfig>);

impl Shelf {
    pub(crate) fn new() -> Self {
        let images = [
            ("docker.io/library/debian:12", DEBIAN),
            ("docker.io/library/rich:latest", RICH),
            ("docker.io/library/triggers:latest", TRIGGERS),
            ("docker.io/library/broken-trigger:latest", BROKEN_TRIGGER),
            ("docker.io/library/no-layers:latest", NO_LAYERS),
            ("docker.io/library/odd-history:latest", ODD_HISTORY),
            ("docker.io/library/arm:latest", ARM),
            ("docker.io/library/windows:latest", WINDOWS),
            ("localhost:5000/team/app:1.0", DEBIAN),
        ];
        Self(
            images
                .into_iter()
                .map(|(name, text)| (name.to_owned(), config(text)))
                .collect(),
        )
    }
}

/// `LAYER` stands for the digest of some layer.
fn config(text: &str) -> ImageConfig {
    let layer = Digest::of(text.as_bytes()).to_string();
    serde_json::from_str(&text.replace("LAYER", &layer)).expect("the image is well-formed")
}

impl Images for Shelf {
    fn resolve(&self, reference: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
        let config = self
            .0
            .get(&reference.to_string())
            .ok_or("no such image on the shelf")?
            .clone();
        Ok(BaseImage {
            id: Digest::of(&config.to_json()),
            pinned: format!("{reference}@sha256:pinned"),
            config,
        })
    }

    fn layout(&self, layout: &Layout, _: &Platform) -> Result<BaseImage, ResolveError> {
        if layout.directory.as_os_str() != "rich" {
            return Err("no such layout on the shelf".into());
        }
        let config = config(RICH);
        Ok(BaseImage {
            id: Digest::of(&config.to_json()),
            pinned: "oci-layout://rich@sha256:pinned".to_owned(),
            config,
        })
    }
}

const DEBIAN: &str = r##"{"created":"2024-01-02T03:04:05Z","architecture":"amd64","os":"linux",
"config":{"Env":["PATH=/usr/bin:/bin"],"Cmd":["bash"]},
"rootfs":{"type":"layers","diff_ids":["LAYER"]},
"history":[{"created":"2024-01-02T03:04:05Z","created_by":"# debian.sh"}]}"##;

const RICH: &str = r##"{"architecture":"amd64","os":"linux","author":"Someone",
"config":{"User":"app","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin","LANG=C","HOME=/srv"],
"Entrypoint":["/entry"],"Cmd":["serve"],"ArgsEscaped":true,"Volumes":{"/data":{}},"WorkingDir":"/srv",
"Labels":{"a":"base","b":"base"},"StopSignal":"SIGINT","Shell":["/bin/bash","-o","pipefail","-c"],
"Healthcheck":{"Test":["CMD","ok"],"Interval":5000000000}},
"rootfs":{"type":"layers","diff_ids":["LAYER","LAYER"]},
"history":[{"created_by":"one"},{"created_by":"ENV LANG=C","empty_layer":true},{"created_by":"two"}]}"##;

const TRIGGERS: &str = r##"{"architecture":"amd64","os":"linux",
"config":{"Env":["PATH=/bin"],"OnBuild":["ARG VERSION=1","RUN make $VERSION","COPY --from=tools /t /t"]},
"rootfs":{"type":"layers","diff_ids":["LAYER"]},"history":[{"created_by":"base"}]}"##;

const BROKEN_TRIGGER: &str = r##"{"architecture":"amd64","os":"linux","config":{"OnBuild":["RNU make"]},
"rootfs":{"type":"layers","diff_ids":["LAYER"]},"history":[{"created_by":"base"}]}"##;

const NO_LAYERS: &str = r##"{"architecture":"amd64","os":"linux","config":{"Env":["A=1"]},
"rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"ENV A=1","empty_layer":true}]}"##;

const ODD_HISTORY: &str = r##"{"architecture":"amd64","os":"linux","config":{},
"rootfs":{"type":"layers","diff_ids":["LAYER","LAYER"]},"history":[{"created_by":"only one"}]}"##;

const ARM: &str = r##"{"architecture":"arm64","variant":"v8","os":"linux","config":{"Env":["PATH=/bin"]},
"rootfs":{"type":"layers","diff_ids":["LAYER"]},"history":[{"created_by":"base"}]}"##;

const WINDOWS: &str = r##"{"architecture":"amd64","os":"windows","config":{},
"rootfs":{"type":"layers","diff_ids":["LAYER"]},"history":[{"created_by":"base"}]}"##;
