//! One certificate from an authority: an account, an order, proof that the names are this host's, and a certificate for
//! a key that was made for it.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use quantix_api::{AcmeChallenge, ChallengeFile, ChallengeProof, Secret};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::{
    Challenges,
    connection::Authority,
    settings::{Kept, Settings, key_of, public_roots, roots_of},
};
use crate::{
    certificate::{Certificates, Here, Pair},
    text,
};

const POLL: Duration = Duration::from_secs(90);
/// The longest sentence of an authority that is repeated.
const LONGEST: usize = 300;
/// What this host publishes for one order.
const LONGEST_TOKEN: usize = 256;

/// The account, when it is another one than before; and the certificate, or the reason why there is none.
pub(super) async fn get(
    certificates: &Certificates,
    kept: &Kept,
    here: &Here,
) -> (Option<Option<Secret>>, Result<Pair, String>) {
    let mut new_account = None;
    let mut got = ask(certificates, kept, here, true, &mut new_account).await;
    // An authority may have forgotten its accounts; this host then makes another, once.
    if matches!(&got, Err(Why::NoAccount)) && kept.account.is_some() {
        got = ask(certificates, kept, here, false, &mut new_account).await;
    }
    let got = got.map_err(|why| match why {
        Why::NoAccount => "the authority does not know this host’s account.".to_owned(),
        Why::Sentence(sentence) => sentence,
    });
    (new_account, got)
}

enum Why {
    NoAccount,
    Sentence(String),
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(problem)
                if problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist")) =>
            {
                Self::NoAccount
            }
            Error::Api(problem) => Self::Sentence(format!("the authority says: {}.", said(problem))),
            Error::Json(_) => Self::Sentence("the authority’s answer is not what ACME asks for.".to_owned()),
            other => Self::Sentence(format!("{}.", text::beginning(&other.to_string(), LONGEST))),
        }
    }
}

impl From<String> for Why {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

fn said(problem: &instant_acme::Problem) -> String {
    let detail = problem.detail.as_deref().or(problem.r#type.as_deref()).unwrap_or("nothing more");
    text::beginning(detail.trim_end_matches('.'), LONGEST)
}

async fn ask(
    certificates: &Certificates,
    kept: &Kept,
    here: &Here,
    with_known_account: bool,
    new_account: &mut Option<Option<Secret>>,
) -> Result<Pair, Why> {
    let settings = &kept.settings;
    let roots = match &settings.authority {
        Some(authority) => roots_of(authority)?,
        None => public_roots()?,
    };
    let http = || {
        Ok::<_, String>(Account::builder_with_http(Box::new(Authority::new(
            &settings.directory,
            roots.clone(),
        )?)))
    };
    let known = kept.credentials().filter(|_| with_known_account);
    let account = match known {
        Some(credentials) => http()?.from_credentials(credentials).await?,
        None => {
            let (account, credentials) = make_account(http()?, settings).await?;
            let text = serde_json::to_string(&credentials).map_err(|error| error.to_string())?;
            *new_account = Some(Some(Secret::new(text)));
            account
        }
    };
    let identifiers: Vec<_> = settings.names.iter().map(|name| identifier(name)).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prove(certificates, settings, &mut order).await?;
    let (key, request) = key_and_request(&settings.names).map_err(|error| error.to_string())?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&RetryPolicy::new().timeout(POLL)).await?;
    let given = certificates.check_given(chain, key, &settings.names, here).await;
    given.map_err(|problem| {
        Why::Sentence(format!("what the authority gave cannot be used. {}", problem.detail))
    })
}

fn identifier(name: &str) -> Identifier {
    name.parse().map_or_else(|_| Identifier::Dns(name.to_owned()), Identifier::Ip)
}

async fn make_account(
    http: instant_acme::AccountBuilder,
    settings: &Settings,
) -> Result<(Account, instant_acme::AccountCredentials), Why> {
    let contact = settings.contact.as_ref().map(|contact| format!("mailto:{contact}"));
    let contact: Vec<_> = contact.iter().map(String::as_str).collect();
    let binding = match &settings.binding {
        Some(binding) => {
            let key = key_of(binding).map_err(|problem| problem.detail)?;
            Some(ExternalAccountKey::new(binding.key_id.trim().to_owned(), &key))
        }
        None => None,
    };
    let account =
        NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    Ok(http.create(&account, settings.directory.clone(), binding.as_ref()).await?)
}

/// Publishes what the authority asks for, and waits until it has seen it.
async fn prove(certificates: &Certificates, settings: &Settings, order: &mut Order) -> Result<(), Why> {
    let mut challenges = Challenges::default();
    let mut authorizations = order.authorizations();
    let mut not_seen = None;
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => {
                let sentence = format!(
                    "the authority does not take {} to be this host’s.",
                    text::beginning(&authorization.identifier().to_string(), LONGEST)
                );
                return Err(Why::Sentence(sentence));
            }
        }
        let name = authorization.identifier().to_string();
        if !settings.names.contains(&name) {
            return Err(Why::Sentence(format!(
                "the authority asks about {}, which was not asked for.",
                text::beginning(&name, LONGEST)
            )));
        }
        let (kind, wanted) = match settings.challenge {
            AcmeChallenge::Http => (ChallengeType::Http01, "a file on port 80"),
            AcmeChallenge::TlsAlpn => (ChallengeType::TlsAlpn01, "a certificate on port 443"),
        };
        let mut challenge = authorization
            .challenge(kind)
            .ok_or_else(|| format!("the authority does not offer to look at {wanted} for {name}."))?;
        publish(settings.challenge, &name, &challenge, &mut challenges)?;
        certificates.prove(challenges.clone());
        // An authority that looks at once says in its answer what it did not see.
        if let Err(error) = challenge.set_ready().await {
            not_seen = Some(error);
            break;
        }
    }
    let waited = match not_seen {
        Some(error) => Err(error),
        None => order.poll_ready(&RetryPolicy::new().timeout(POLL)).await,
    };
    match waited {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(OrderStatus::Invalid | OrderStatus::Pending | OrderStatus::Processing) => {
            let nothing = "the authority did not see that the names are this host’s.".to_owned();
            Err(Why::Sentence(refused(order).await.unwrap_or(nothing)))
        }
        Err(error @ Error::Api(_)) => Err(refused(order).await.map_or_else(|| error.into(), Why::Sentence)),
        Err(error) => Err(error.into()),
    }
}

fn publish(
    kind: AcmeChallenge,
    name: &str,
    challenge: &ChallengeHandle<'_>,
    challenges: &mut Challenges,
) -> Result<(), Why> {
    let token = challenge.token.clone();
    let is_token = (1..=LONGEST_TOKEN).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_token {
        return Err(Why::Sentence("the authority’s token is none.".to_owned()));
    }
    let answer = challenge.key_authorization();
    match kind {
        AcmeChallenge::Http => {
            challenges.files.push(ChallengeFile { token, content: answer.as_str().to_owned() });
        }
        AcmeChallenge::TlsAlpn => {
            let proof = proof(name, answer.digest().as_ref()).map_err(|error| error.to_string())?;
            challenges.proofs.push(proof);
        }
    }
    Ok(())
}

/// A certificate that says, to whoever asks for it in the way of RFC 8737, what an authority wants to hear.
fn proof(name: &str, digest: &[u8]) -> Result<ChallengeProof, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?.pem();
    Ok(ChallengeProof { name: name.to_owned(), certificate, key: Secret::new(key.serialize_pem()) })
}

/// Why the authority did not see what it asked for, in its own words, if it says so.
async fn refused(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = text::beginning(&authorization.identifier().to_string(), LONGEST);
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(format!(
                "the authority did not see that {name} is this host’s. It says: {}.",
                said(problem)
            ));
        }
    }
    None
}

fn key_and_request(names: &[String]) -> Result<(Secret, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?.der().to_vec();
    Ok((Secret::new(key.serialize_pem()), request))
}
