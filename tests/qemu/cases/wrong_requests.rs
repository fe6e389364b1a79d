//! Requests nobody should send get an answer, and the programs go on as if nothing had been.

use quantix_qemu::{SavedMachine, pages, plain_get};

use crate::services::restarts;

#[test]
fn requests_that_make_no_sense_are_answered_and_do_no_harm() {
    let mut machine = SavedMachine::fresh().restore();
    let before = restarts(&mut machine);
    let mut browser = machine.https();

    for path in
        ["/nothing", "/api/v2", "/../../etc/passwd", "/assets/../../etc/shadow", "/%2e%2e/%00", "/overview/x"]
    {
        assert_eq!(browser.get(path).status, 404, "{path}");
    }
    assert_eq!(browser.request("DELETE", "/sign-in", &[], b"").unwrap().status, 405);
    assert_eq!(browser.request("PUT", "/healthz", &[], b"x").unwrap().status, 405);

    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let big = vec![b'a'; 2 * 1024 * 1024];
    assert_eq!(browser.request("POST", "/sign-in", &form, &big).unwrap().status, 413);
    let half = [b"username=admin&password=".to_vec(), vec![b'a'; 60_000]].concat();
    let answer = browser.request("POST", "/sign-in", &form, &half).unwrap();
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    for body in [&b"username=admin"[..], b"", b"\xff\xfe=&&&", b"username=%ff&password=%00"] {
        let answer = browser.request("POST", "/sign-in", &form, body).unwrap();
        assert!((400..500).contains(&answer.status), "{body:?}: {}", answer.status);
    }
    let json = [("Content-Type", "application/json")];
    let answer = browser.request("POST", "/sign-in", &json, b"{\"username\":").unwrap();
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    let cookie = [("Cookie", "__Host-quantix=../../etc/passwd")];
    pages::expect_redirect(&browser.request("GET", "/overview", &cookie, b"").unwrap(), "/sign-in");

    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X-Header: filled\r\n".repeat(20_000));
    let malformed: [&[u8]; 5] = [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: nonsense\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        many.as_bytes(),
    ];
    for bytes in malformed {
        // An answer is a refusal; hanging up without one is as good.
        if let Ok(answer) = browser.send_raw(bytes) {
            assert!((400..=505).contains(&answer.status) && answer.status != 500, "{}", answer.status);
        }
    }
    assert_eq!(browser.get("/healthz").status, 200);
    assert_eq!(restarts(&mut machine), before, "a program was started again");
    assert!(machine.run("systemctl is-active quantixd quantix-hostui").succeeded());
}

#[test]
fn port_80_leads_to_443() {
    let machine = SavedMachine::fresh().restore();
    let answer = plain_get(machine.http_port(), "/overview?x=1");
    assert!(matches!(answer.status, 301 | 308), "{}", answer.status);
    assert!(answer.location().starts_with("https://127.0.0.1"), "{}", answer.location());
    assert!(answer.location().ends_with("/overview?x=1"), "{}", answer.location());
}

#[test]
fn every_page_carries_the_rules_for_browsers() {
    let mut machine = SavedMachine::fresh().restore();
    let mut browser = machine.https();
    for path in ["/sign-in", "/nothing"] {
        let answer = browser.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") || policy.contains("default-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe-"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(!answer.text().contains("<script>"), "{path}");
    }
}
