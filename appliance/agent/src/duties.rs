//! What a host does without being asked: once it leads, what every cluster needs; always, what keeps it a member.

use std::{net::IpAddr, sync::atomic::Ordering, time::Duration};

use quantix_api::{Problem, ProblemCode};
use quantix_host::blocking;
use quantix_store::{Seen, Store, Wanted};

use crate::{account::Account, api::Agent, cluster::kept, syslog};

/// Changes that a duty depends on are seen at once; time goes by unseen.
const LOOK: Duration = Duration::from_secs(30);
/// What could not be done without a leader is tried again sooner.
const SOON: Duration = Duration::from_secs(1);
/// How long a host that ends waits for another to lead.
const HAND_OVER: Duration = Duration::from_secs(5);
/// The tables that duties depend on.
const TABLES: &[&str] = &["account", "cluster", "host"];

impl Agent {
    /// Opens the data and does what there is to do, until only a new start helps; tells why.
    pub(crate) async fn do_duties(&self) -> String {
        let store = self.cluster.open().await;
        tokio::select! {
            why = store.stopped() => why,
            () = self.look_after(&store) => "the store has ended".to_owned(),
            () = syslog::forward(self, &store) => "the store has ended".to_owned(),
        }
    }

    /// What is seen to while everything still answers.
    pub(crate) async fn prepare_to_end(&self) {
        self.certificates.close();
        match tokio::time::timeout(HAND_OVER, self.cluster.hand_over()).await {
            Ok(Err(problem)) => log::warn!("This host ends while it leads: {problem}"),
            Err(_) => log::warn!("This host ends while it leads: no other took the vDC role in time"),
            Ok(Ok(())) => {}
        }
    }

    async fn look_after(&self, store: &Store) {
        let mut leadership = store.leadership();
        let mut watch = store.watch(store.applied());
        loop {
            let leads = *leadership.borrow_and_update();
            if let Err(problem) = self.look(store, leads).await {
                log::warn!("{problem}");
            }
            let changed = async {
                while let Seen::Changes(changes) = watch.next().await {
                    if changes.rows.iter().any(|row| TABLES.contains(&&*row.table)) {
                        break;
                    }
                }
            };
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = changed => {}
                () = tokio::time::sleep(if store.status().writable { LOOK } else { SOON }) => {}
            }
        }
    }

    async fn look(&self, store: &Store, leads: Option<u64>) -> Result<(), Problem> {
        let account = self.cluster.read(Account::any).await?;
        self.has_account.store(account.is_some(), Ordering::Relaxed);
        if let Some(term) = leads {
            if account.is_none() {
                self.make_first_account(term).await?;
            }
            // A host that is gone may have had this one's name.
            self.cluster.forget_lost_hosts(term).await?;
            self.cluster.settle(term, &self.name).await?;
        }
        if let Some((_, wanted)) = self.cluster.read(kept::cluster).await? {
            let wanted = wanted.and_then(|wanted| usize::try_from(wanted).ok());
            let wanted = wanted.map_or(Wanted::BySize, Wanted::Exactly);
            store.want_voters(wanted);
        }
        if self.cluster.must_renew() && store.status().writable {
            self.cluster.renew().await?;
        }
        self.tell_new_address(store).await
    }

    async fn make_first_account(&self, term: u64) -> Result<(), Problem> {
        let made = blocking(Account::first).await.unwrap_or_else(|| Err("it broke off".to_owned()));
        let first = made.map_err(|error| {
            Problem::new(ProblemCode::Internal, format!("The first account could not be made: {error}."))
        })?;
        self.cluster.write_in(term, move |connection| first.keep_new(connection)).await
    }

    /// A host that has lost the address under which the others know it tells them its new one.
    async fn tell_new_address(&self, store: &Store) -> Result<(), Problem> {
        let status = store.status();
        let known =
            status.members.iter().find(|member| member.id == status.id).map(|member| &member.address.0);
        let known = known.and_then(|address| address.parse::<std::net::SocketAddr>().ok());
        let Some(known) = known.map(|address| address.ip()) else { return Ok(()) };
        let own = self.own_ips().await;
        if own.is_empty() || own.contains(&known) || known.is_loopback() {
            return Ok(());
        }
        self.cluster.move_to(own[0]).await
    }

    /// The addresses of this host that others can reach.
    pub(crate) async fn own_ips(&self) -> Vec<IpAddr> {
        let facts = self.host.facts().await;
        let all = facts.nics.iter().flat_map(|nic| nic.addresses.iter().map(|address| address.ip));
        let is_reachable = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        all.filter(is_reachable).collect()
    }

    /// What to type on a host that shall join this one.
    pub(crate) async fn own_address(&self) -> String {
        let own = self.own_ips().await;
        self.cluster.as_typed(own.first().copied())
    }
}
