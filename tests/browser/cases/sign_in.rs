//! Ways in: an identity provider, a second factor.

use quantix_api::{NewAccess, NewGroup, Scope, Who, built_in, calls};
use quantix_browser::{Desk, LOOKS, Provider};

#[tokio::test]
async fn an_identity_provider_is_set_up_tried_and_signed_in_with() {
    let desk = Desk::start().await;
    let provider = Provider::start(&desk.host.origin(), "ada", &["qx viewers"]).await;
    let session = desk.host.session().await;
    let group =
        NewGroup { name: "viewers".into(), purpose: String::new(), provider_name: Some("qx viewers".into()) };
    desk.host.agent().call(&calls::make_group(&group).as_session(&session)).await.unwrap();
    let access = NewAccess {
        who: Who::Group("viewers".into()),
        role: built_in::VIEWER.into(),
        scope: Scope::Datacenter,
    };
    desk.host.agent().call(&calls::give_access(&access).as_session(&session)).await.unwrap();

    desk.sign_in().await;
    desk.open("/settings/sign-in").await;
    desk.fill("What people call it", "Example").await;
    desk.fill("Address", &provider.issuer).await;
    desk.fill("Client secret", provider.secret).await;
    desk.fill("Certificate of its authority optional", &provider.certificate).await;
    desk.press("Save").await;
    desk.press("Test").await;
    desk.sees("answers and signs with").await;
    for look in LOOKS {
        desk.look_as(look).await;
        desk.picture(&format!("settings-sign-in-tried.{}", look.name)).await;
        assert_eq!(desk.findings().await, [""; 0], "{}", look.name);
    }
    desk.look_as(LOOKS[0]).await;
    desk.sign_out().await;

    desk.picture("sign-in-with-provider.light").await;
    desk.follow("Sign in with Example").await;
    desk.is_at("/overview").await;
    desk.press("Your account").await;
    desk.sees("ada").await;
    desk.open("/settings").await;
    desk.heading("This is not for you").await;
    desk.open("/overview").await;
    desk.sign_out().await;
    // From outside, the answer of another sign-in is worth nothing.
    desk.open("/sign-in/oidc/callback?code=abc&state=def").await;
    desk.heading("Sign in").await;
    assert_eq!(desk.cookie("__Host-quantix").await, None);

    desk.sign_in().await;
    desk.open("/settings/sign-in").await;
    desk.press("Forget the provider").await;
    desk.press("Forget it").await;
    desk.shows("field", "Client secret").await;
    desk.sign_out().await;
    assert!(!desk.has("link", "Sign in with Example").await);
}
