//! The certificate of this host's pages: the host's own, or one that was put in its place. The key does not leave this
//! host: it is kept in one file with its certificate, and told to the page server alone.

mod facts;
mod own;
mod pair;
mod renewal;
mod request;
pub(crate) mod upload;

use std::{
    fs::File,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use jiff::Timestamp;
use quantix_api::{
    CertificateFacts, CertificateSource, Check, CheckState, NewCertificateRequest, PageCertificate, Problem,
    ProblemCode, ToShow, UploadCertificate,
};
use quantix_host::blocking;
use tokio::sync::watch;

pub(crate) use pair::Pair;
pub(crate) use renewal::renew_at;
use request::Waiting;
pub(crate) use request::names;
use upload::Against;
pub(crate) use upload::certificates;

use crate::{acme, durable, lock, version::Version};

/// What certificates are measured by on this host.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the clock follows a server.
    pub(crate) clock_is_right: bool,
}

impl Here {
    fn against(&self, now: Timestamp) -> Against<'_> {
        Against { now, clock_is_right: self.clock_is_right, name: &self.name, addresses: &self.addresses }
    }
}

/// The certificates of this host.
pub(crate) struct Certificates {
    folder: PathBuf,
    standing: Mutex<Standing>,
    shown: watch::Sender<Option<ToShow>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    pub(crate) acme: acme::Acme,
}

struct Standing {
    /// The host's own, unless not even that could be made.
    own: Result<Pair, String>,
    /// Why it will be another one after the next start.
    unkept: Option<String>,
    /// The one in its place.
    instead: Option<Pair>,
    /// Why one that was in its place is not shown.
    damaged: Option<String>,
    facts: Option<CertificateFacts>,
    waiting: Option<Waiting>,
    /// What people have changed, counted: what was begun before does not undo it.
    changes: u64,
}

impl Standing {
    fn pair(&self) -> Option<&Pair> {
        self.instead.as_ref().or(self.own.as_ref().ok())
    }
}

impl Certificates {
    /// Reads what is kept in `folder`, or makes it.
    pub(crate) fn open(folder: &Path, hostname: &str) -> Self {
        let (own, unkept) = match own::ensure(folder, hostname) {
            Ok((pair, unkept)) => (Ok(pair), unkept.map(|error| error.to_string())),
            Err(error) => (Err(error.to_string()), None),
        };
        let (instead, damaged) = match Pair::read(&pair::file(folder)) {
            Ok(instead) => (instead, None),
            Err(why) => (None, Some(why)),
        };
        for why in own.as_ref().err().into_iter().chain(&unkept).chain(&damaged) {
            log::error!("The certificate of the pages: {why}");
        }
        let waiting = Waiting::read(&request::file(folder));
        let mut standing = Standing { own, unkept, instead, damaged, facts: None, waiting, changes: 0 };
        standing.facts = standing.pair().and_then(|pair| pair.facts().ok());
        let shown = watch::Sender::new(standing.pair().map(told));
        let fingerprint = standing.facts.as_ref().map(|facts| facts.fingerprint.as_str());
        let source = standing.pair().map(|pair| pair.source);
        let acme = acme::Acme::open(folder, source, fingerprint);
        Self {
            folder: folder.to_owned(),
            standing: Mutex::new(standing),
            shown,
            changing: tokio::sync::Mutex::default(),
            acme,
        }
    }

    /// Tries again to write what the disk did not take.
    pub(crate) fn keep(&self) {
        let own = {
            let standing = lock(&self.standing);
            standing.own.clone().ok().filter(|_| standing.unkept.is_some())
        };
        if let Some(own) = own {
            let kept = own::keep(&self.folder, &own);
            lock(&self.standing).unkept = kept.err().map(|error| error.to_string());
        }
    }

    /// The SHA-256 of the certificate that is shown; empty when there is none.
    pub(crate) fn fingerprint(&self) -> String {
        lock(&self.standing).facts.as_ref().map(|facts| facts.fingerprint.clone()).unwrap_or_default()
    }

    /// What to show, and every change of it; ends with the agent.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<ToShow>> {
        self.shown.subscribe()
    }

    /// Ends what waits for changes.
    pub(crate) fn close(&self) {
        self.shown.send_replace(None);
    }

    /// Whether the pages have a certificate that browsers take, for how long, and what to do.
    pub(crate) fn check(&self, now: Timestamp) -> Check {
        let standing = lock(&self.standing);
        let (state, detail) = match (standing.pair(), &standing.facts) {
            (Some(pair), Some(facts)) => {
                let kept = standing.unkept.as_ref().filter(|_| pair.source == CertificateSource::SelfSigned);
                if let Some(why) = kept {
                    (
                        CheckState::Failed,
                        format!("The certificate of the pages is lost at the next start: {why}."),
                    )
                } else if let Some(why) = &standing.damaged {
                    let sentence = format!(
                        "The certificate of the pages could not be used and the host’s own is shown: {why}. Upload it \
                         again under Settings, Certificate."
                    );
                    (CheckState::Warn, sentence)
                } else {
                    renewal::judge(pair.source, facts, self.acme.trouble().as_deref(), now)
                }
            }
            _ => {
                let why = standing.own.as_ref().err().map_or("it cannot be read", String::as_str);
                (CheckState::Failed, format!("The pages have no certificate: {why}."))
            }
        };
        Check { name: "certificate".to_owned(), state, detail }
    }

    /// All there is to know, without any key.
    pub(crate) fn view(&self, host: String, here: &Here, now: Timestamp) -> Result<PageCertificate, Problem> {
        let check = self.check(now);
        let standing = lock(&self.standing);
        let (Some(pair), Some(facts)) = (standing.pair(), &standing.facts) else {
            return Err(Problem::new(ProblemCode::Unavailable, check.detail));
        };
        let addresses = here.addresses.iter().map(ToString::to_string);
        Ok(PageCertificate {
            host,
            host_name: here.name.clone(),
            reached_as: std::iter::once(here.name.clone()).chain(addresses).collect(),
            source: pair.source,
            shown: facts.clone(),
            trouble: (check.state != CheckState::Ok).then_some(check.detail),
            request: standing.waiting.as_ref().map(|waiting| waiting.request.clone()),
            acme: self.acme.view(pair.source, facts),
        })
    }

    /// Which state somebody saw who changes it: another one for every change that they could have seen.
    pub(crate) fn version(&self) -> u64 {
        let standing = lock(&self.standing);
        let seen = standing.facts.as_ref().map_or("", |facts| &facts.fingerprint);
        let seen = format!(
            "{seen}{:?}{:?}",
            standing.waiting.as_ref().map(|waiting| &waiting.request),
            self.acme.settings()
        );
        renewal::hash(&seen)
    }

    /// Puts what was uploaded in the place of what is shown.
    pub(crate) async fn upload(
        &self,
        upload: UploadCertificate,
        here: &Here,
        seen: Version,
    ) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        seen.must_be(self.version())?;
        let key = lock(&self.standing).waiting.as_ref().map(|waiting| waiting.key.clone());
        let answers_request = upload.key.is_none();
        let here = here.clone();
        let checked =
            blocking(move || upload::check(&upload, key.as_ref(), &here.against(Timestamp::now()))).await;
        let pair = checked.unwrap_or_else(|| Err(broke_off()))?;
        self.put(pair).await?;
        lock(&self.standing).changes += 1;
        // A kill before this leaves settings that were made for another certificate, which the next start sees.
        self.acme.turn_off().await?;
        if answers_request {
            self.forget_request().await?;
        }
        Ok(())
    }

    /// Shows what an authority gave, unless somebody has changed anything since.
    pub(crate) async fn renew(&self, pair: Pair, changes: u64) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        if lock(&self.standing).changes != changes {
            let sentence = "The certificate was changed by somebody while the authority was asked.";
            return Err(Problem::new(ProblemCode::Unavailable, sentence));
        }
        self.put(pair).await
    }

    /// Gets no certificates any more; the one that is shown stays.
    pub(crate) async fn stop_acme(&self) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        self.acme.turn_off().await?;
        lock(&self.standing).changes += 1;
        Ok(())
    }

    /// What is shown now, and where it comes from.
    pub(crate) fn present(&self) -> Option<(CertificateSource, CertificateFacts)> {
        let standing = lock(&self.standing);
        Some((standing.pair()?.source, standing.facts.clone()?))
    }

    /// As long as this is held, nobody changes anything.
    pub(crate) async fn unchanging(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// How often people have changed anything.
    pub(crate) fn changes(&self) -> u64 {
        lock(&self.standing).changes
    }

    /// Checks what an authority gave for a key that was made for it.
    pub(crate) async fn check_given(
        &self,
        chain: String,
        key: quantix_api::Secret,
        names: &[String],
        here: &Here,
    ) -> Result<Pair, Problem> {
        let upload = UploadCertificate { chain, key: Some(key), accept_warnings: true };
        let (here, wanted) = (here.clone(), names.to_vec());
        let checked = blocking(move || {
            let mut pair = upload::check(&upload, None, &here.against(Timestamp::now()))?;
            let facts = pair.facts().map_err(|why| Problem::new(ProblemCode::Invalid, format!("{why}.")))?;
            if let Some(missing) =
                wanted.iter().find(|name| !facts.names.iter().any(|given| given.eq_ignore_ascii_case(name)))
            {
                let sentence =
                    format!("The certificate is for {}, and not for {missing}.", facts.names.join(", "));
                return Err(Problem::new(ProblemCode::Invalid, sentence));
            }
            pair.source = CertificateSource::Acme;
            Ok(pair)
        })
        .await;
        checked.unwrap_or_else(|| Err(broke_off()))
    }

    async fn put(&self, pair: Pair) -> Result<(), Problem> {
        let path = pair::file(&self.folder);
        let written = pair.clone();
        self.on_disk(move |folder| {
            std::fs::create_dir_all(folder)?;
            written.write(&path)
        })
        .await?;
        self.show(Some(pair));
        Ok(())
    }

    /// Goes back to the certificate that the host made for itself.
    pub(crate) async fn reset(&self, seen: Version) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        seen.must_be(self.version())?;
        if lock(&self.standing).own.is_err() {
            let sentence = "The host has no certificate of its own to go back to. Upload one.";
            return Err(Problem::new(ProblemCode::Unavailable, sentence));
        }
        // In this order, a kill between the two leaves a certificate that is not renewed, and not one that comes back.
        self.acme.turn_off().await?;
        lock(&self.standing).changes += 1;
        let path = pair::file(&self.folder);
        self.on_disk(move |folder| remove(folder, &path)).await?;
        self.show(None);
        Ok(())
    }

    /// Makes a key and a request for a certificate for it. One that waits is replaced.
    pub(crate) async fn make_request(&self, asked: NewCertificateRequest) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        let waiting = blocking(move || Waiting::make(&asked, Timestamp::now())).await;
        let waiting = waiting.unwrap_or_else(|| Err(broke_off()))?;
        let (path, written) = (request::file(&self.folder), waiting.clone());
        self.on_disk(move |folder| {
            std::fs::create_dir_all(folder)?;
            written.write(&path)
        })
        .await?;
        lock(&self.standing).waiting = Some(waiting);
        Ok(())
    }

    /// Forgets a request and its key.
    pub(crate) async fn drop_request(&self) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        self.forget_request().await
    }

    async fn forget_request(&self) -> Result<(), Problem> {
        let path = request::file(&self.folder);
        self.on_disk(move |folder| remove(folder, &path)).await?;
        lock(&self.standing).waiting = None;
        Ok(())
    }

    /// Says how certificates are got by themselves from now on; the one that is shown stays until there is another.
    pub(crate) async fn set_acme(&self, settings: acme::Settings, seen: Version) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        seen.must_be(self.version())?;
        let fingerprint = self.fingerprint();
        self.acme.set(settings, fingerprint).await?;
        lock(&self.standing).changes += 1;
        Ok(())
    }

    /// What authorities ask for at this moment.
    pub(crate) fn prove(&self, challenges: acme::Challenges) {
        self.shown.send_modify(|shown| {
            if let Some(shown) = shown {
                shown.files = challenges.files;
                shown.proofs = challenges.proofs;
            }
        });
    }

    async fn on_disk(
        &self,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Problem> {
        let folder = self.folder.clone();
        let done = blocking(move || work(&folder)).await;
        done.unwrap_or_else(|| Err(io::Error::other("it broke off"))).map_err(|error| {
            let sentence = format!("Nothing was changed: the disk did not take it ({error}).");
            Problem::new(ProblemCode::StorageUnavailable, sentence)
        })
    }

    fn show(&self, instead: Option<Pair>) {
        let mut standing = lock(&self.standing);
        standing.instead = instead;
        standing.damaged = None;
        standing.facts = standing.pair().and_then(|pair| pair.facts().ok());
        if let Some(pair) = standing.pair() {
            self.shown.send_modify(|shown| {
                // Not when the agent is about to end.
                if let Some(shown) = shown {
                    (shown.chain, shown.key) = (pair.chain.clone(), pair.key.clone());
                }
            });
        }
        let fingerprint = standing.facts.as_ref().map(|facts| facts.fingerprint.as_str()).unwrap_or_default();
        log::info!(fingerprint:% = fingerprint; "The pages show another certificate: SHA-256 {fingerprint}");
    }
}

fn told(pair: &Pair) -> ToShow {
    ToShow { chain: pair.chain.clone(), key: pair.key.clone(), files: Vec::new(), proofs: Vec::new() }
}

/// Removes a file so that it stays removed when the power fails.
pub(crate) fn remove(folder: &Path, path: &Path) -> io::Result<()> {
    durable::remove(path)?;
    File::open(folder)?.sync_all()
}

fn broke_off() -> Problem {
    Problem::new(ProblemCode::Internal, "The check of the certificate broke off.")
}
