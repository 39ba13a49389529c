use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

/// What goes through when `bytes` arrive `cut` at a time, and what is found wrong.
async fn screened(bytes: &[u8], cut: usize) -> (Vec<u8>, Option<Flaw>) {
    let (mut client, server) = duplex(cut);
    let bytes = bytes.to_vec();
    let writing = tokio::spawn(async move {
        let _refused = client.write_all(&bytes).await;
        let _refused = client.shutdown().await;
        client
    });
    let mut screen = Screen::new(server);
    let mut through = Vec::new();
    screen.read_to_end(&mut through).await.unwrap();
    let flaw = screen.take_flaw();
    drop(screen);
    writing.await.unwrap();
    (through, flaw)
}

const TWO: &str = "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc\
                   PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn whole_messages_go_through_unchanged_however_they_are_cut() {
    for cut in [1, 2, 3, 7, 16, 61, 400] {
        let (through, flaw) = screened(TWO.as_bytes(), cut).await;
        assert_eq!(through, TWO.as_bytes(), "cut {cut}");
        assert!(flaw.is_none(), "cut {cut}: {flaw:?}");
    }
}

#[tokio::test]
async fn what_comes_before_a_flaw_goes_through_and_nothing_after_it() {
    for cut in [1, 5, 400] {
        for bad in [
            "GET / HTTP/1.1\n\n",
            "get \r\n\r\n",
            "GET / HTTP/1.1\r\nHo",
            "\r\n\r\nGET",
        ] {
            let (through, flaw) = screened(format!("{TWO}{bad}").as_bytes(), cut).await;
            let through = String::from_utf8(through).unwrap();
            assert!(
                TWO == through || format!("{TWO}\r\n") == through,
                "{bad:?}: {through}"
            );
            assert!(matches!(flaw, Some(Flaw::Refused(..))), "{bad:?}: {flaw:?}");
        }
    }
}

#[tokio::test]
async fn n24_a_head_without_an_end_is_refused_at_its_bound() {
    let endless = format!(
        "GET / HTTP/1.1\r\nx: {}",
        "y".repeat(2 * limits::HEAD_BYTES)
    );
    let (through, flaw) = screened(endless.as_bytes(), 4096).await;
    assert!(through.is_empty());
    let Some(Flaw::Refused(problem, _)) = flaw else {
        panic!("{flaw:?}");
    };
    assert_eq!(problem.fault, Fault::HeadTooLarge);
}

#[tokio::test]
async fn http2_is_told_by_its_preface_at_the_start_only() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes";
    for cut in [1, 400] {
        let (through, flaw) = screened(preface, cut).await;
        assert!(through.is_empty());
        assert!(matches!(flaw, Some(Flaw::Http2(_))), "{flaw:?}");
    }
    let later = [TWO.as_bytes(), preface].concat();
    let (_, flaw) = screened(&later, 400).await;
    assert!(matches!(flaw, Some(Flaw::Refused(..))), "{flaw:?}");
}

#[tokio::test]
async fn behind_a_connect_everything_goes_through() {
    let bytes = b"CONNECT a.test:1 HTTP/1.1\r\nHost: a.test\r\n\r\n\x16\x03\x01\n\n\r";
    let (through, flaw) = screened(bytes, 400).await;
    assert_eq!(through, bytes);
    assert!(flaw.is_none());
}
