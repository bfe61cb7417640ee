//! Layers on their way to registries while the build that makes them goes on: once the image is made,
//! little is left to be sent. What is there then has no name, and nobody finds it if none is given.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use export::{PackedLayer, Parcel, PushWatch, SaveError, SaveOptions, There};
use oci::{Digest, Reference};
use registry::Client;
use snapshot::{SnapshotId, Snapshots};

use crate::images::Watch;
use crate::leaks::{self, Needles, Search};
use crate::report::{Aside, Reporter};
use crate::{Cancel, Engine, Output, Request};

/// How many layers are sent at once.
const SENDERS: usize = 4;
/// How long a build that came to nothing waits for what is being sent to be given up.
const MOMENT: Duration = Duration::from_secs(1);

/// Packs layers and has them sent. Dropped, it gives up what is being sent.
pub(crate) struct Ahead {
    packing: Packing,
    /// Ends when nobody sends any more.
    sent: Receiver<Infallible>,
    told: Sender<Told>,
}

/// What people are told of what is sent: of which of the names, which blob, and how much.
enum Told {
    Moved(usize, Digest, (u64, u64)),
    Sent(usize, Digest),
    /// Nothing more goes to this name.
    Refused(usize),
    /// Nothing more goes anywhere, whatever somebody still says.
    Over,
}

/// How a layer is packed, and who gets it then.
#[derive(Clone)]
pub(crate) struct Packing {
    options: SaveOptions,
    /// What no layer that is sent may hold.
    secrets: Option<Arc<Needles>>,
    names: Arc<[Reference]>,
    /// Takes what goes to each name.
    parcels: Sender<Vec<Parcel>>,
}

/// One of those who send. Has nothing of the store, which is closed in order whatever a registry does.
#[derive(Clone)]
struct Courier<W> {
    registries: Arc<Client>,
    /// Those that did not take something. What is amiss there, whoever pushes the image finds out.
    refused: Arc<Mutex<BTreeSet<Reference>>>,
    there: Arc<There>,
    told: Sender<Told>,
    watch: W,
}

impl Ahead {
    /// Who sends the layers of a request's image, if it goes to registries, until `watch` says that
    /// nobody wants them any more. What is sent is added to `there`.
    pub(crate) fn of<'scope, 'env>(
        engine: &Engine,
        request: &Request,
        (scope, reporter): (&'scope Scope<'scope, 'env>, &'env Reporter<'env>),
        there: &Arc<There>,
        watch: impl PushWatch + Clone + Send + 'static,
    ) -> Option<Self> {
        // Layers that are dated back are others than those that the steps made.
        if request.rewrite_timestamp {
            return None;
        }
        let push = request.outputs.iter().find_map(|output| match output {
            Output::Push(push) => Some(push),
            _ => None,
        })?;
        // And so are those that get a table.
        if push.options.estargz {
            return None;
        }
        let names = match &push.names[..] {
            [] => &request.tags,
            names => names,
        };
        let names: Arc<[Reference]> = one_each(names).into();
        let (told, hear) = unbounded();
        let (spoken_of, cancel) = (Arc::clone(&names), request.cancel.clone());
        scope.spawn(move || tell(reporter, &spoken_of, &cancel, &hear));
        let courier = Courier {
            registries: Arc::clone(&engine.registries),
            refused: Arc::default(),
            there: Arc::clone(there),
            told: told.clone(),
            watch,
        };
        let (parcels, packed) = unbounded::<Vec<Parcel>>();
        let (sending, sent) = bounded(0);
        for _ in 0..SENDERS {
            let (courier, packed, sending) = (courier.clone(), packed.clone(), sending.clone());
            // Nobody waits for a registry that is silent where the build has come to nothing.
            thread::spawn(move || {
                for parcels in &packed {
                    let parcels = parcels.into_iter().enumerate();
                    parcels.for_each(|(name, it)| courier.send(name, it));
                }
                drop::<Sender<Infallible>>(sending);
            });
        }
        Some(Self {
            packing: Packing {
                options: push.options.clone(),
                secrets: Needles::refused_by(request).map(Arc::new),
                names,
                parcels,
            },
            sent,
            told,
        })
    }

    pub(crate) fn packing(&self) -> Packing {
        self.packing.clone()
    }

    /// Waits until all that was packed is sent, or was refused; once it is given up, only a moment longer.
    pub(crate) fn settle(self, cancel: &Cancel) {
        drop(self.packing);
        let (given_up, is_given_up) = bounded::<Infallible>(0);
        let _on_cancel = cancel.on_cancel(move || drop(given_up));
        crossbeam_channel::select! {
            recv(self.sent) -> _ => {}
            recv(is_given_up) -> _ => {
                let _ = self.sent.recv_timeout(MOMENT);
            }
        }
        let _ = self.told.send(Told::Over);
    }

    /// Waits a moment for the senders, who know that nobody wants anything any more.
    pub(crate) fn give_up(self) {
        drop(self.packing);
        let _ = self.sent.recv_timeout(MOMENT);
        let _ = self.told.send(Told::Over);
    }
}

/// Tells of what goes to each name as of an errand beside the steps, until it is over.
fn tell(reporter: &Reporter<'_>, names: &[Reference], cancel: &Cancel, hear: &Receiver<Told>) {
    let errand = |(number, name): (usize, &Reference)| {
        let aside = Aside::new(reporter, &format!("pushing layers for {name}"), number);
        let watch = Watch::new(reporter, aside.vertex(), cancel);
        (aside, watch)
    };
    let mut errands: Vec<Option<_>> = names.iter().enumerate().map(errand).map(Some).collect();
    for told in hear {
        match told {
            Told::Moved(name, blob, (sent, size)) => {
                if let Some((aside, watch)) = &errands[name] {
                    aside.begin();
                    watch.moved(blob.to_string(), sent, size);
                }
            }
            Told::Sent(name, blob) => {
                if let Some((_, watch)) = &errands[name] {
                    watch.ended(&blob.to_string());
                }
            }
            Told::Refused(name) => {
                if let Some((aside, _)) = errands[name].take() {
                    aside.cancel();
                }
            }
            Told::Over => break,
        }
    }
    for (aside, _) in errands.into_iter().flatten() {
        match cancel.is_cancelled() {
            true => aside.cancel(),
            false => aside.finish(),
        }
    }
}

/// One name of each repository.
fn one_each(names: &[Reference]) -> Vec<Reference> {
    let mut repositories = BTreeSet::new();
    let first = names.iter().filter(|it| repositories.insert(it.name()));
    first.cloned().collect()
}

impl Packing {
    /// Packs a layer.
    pub(crate) fn pack(
        &self,
        snapshots: &Snapshots,
        layer: SnapshotId,
        watch: &dyn PushWatch,
    ) -> Result<PackedLayer, SaveError> {
        PackedLayer::pack(snapshots, &self.options, layer, watch)
    }

    /// Has a packed layer sent, unless the image is going to be refused for it.
    pub(crate) fn send(
        self,
        (snapshots, layer): (&Snapshots, SnapshotId),
        packed: &PackedLayer,
        cancel: &Cancel,
    ) {
        if let Some(secrets) = &self.secrets {
            let search = Search::Values(secrets);
            let found = leaks::in_layer(snapshots, layer, search, cancel);
            // It is told with the image what was found, or why nobody can look.
            if !found.is_ok_and(|found| found.is_empty()) {
                return;
            }
        }
        let names = self.names.iter();
        let parcels = names.map(|name| packed.parcel(snapshots.store(), name));
        match parcels.collect::<Result<_, _>>() {
            // They are there as long as somebody may have something for them.
            Ok(parcels) => drop(self.parcels.send(parcels)),
            Err(error) => {
                tracing::debug!(error = crate::error::chain(&error), "not sent ahead");
            }
        }
    }
}

impl<W: PushWatch> Courier<W> {
    /// Sends what goes to the name of this number.
    fn send(&self, number: usize, parcel: Parcel) {
        let name = parcel.reference().clone();
        if self.watch.is_cancelled() || self.refused(|it| it.contains(&name)) {
            return;
        }
        let (blob, size) = (parcel.digest(), parcel.size());
        let progress = |sent| self.tell(Told::Moved(number, blob, (sent, size)));
        match parcel.send(&self.registries, &self.there, (&self.watch, &progress)) {
            Ok(_) => self.tell(Told::Sent(number, blob)),
            Err(error) => {
                tracing::debug!(error = crate::error::chain(&error), "not sent ahead");
                self.refused(|it| it.insert(name));
                self.tell(Told::Refused(number));
            }
        }
    }

    fn tell(&self, told: Told) {
        // Whoever listened may have gone.
        let _ = self.told.send(told);
    }

    fn refused<T>(&self, look: impl FnOnce(&mut BTreeSet<Reference>) -> T) -> T {
        look(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
