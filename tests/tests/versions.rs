//! A daemon of another version, as an update leaves it: replaced when idle, left alone when busy.

#![expect(
    clippy::expect_used,
    reason = "what is not there fails the test, in helpers too"
)]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use cordon_tests::{World, for_both};

for_both! {
    fn a_busy_daemon_of_another_version_is_left_alone(world) {
        let asked = old_daemon(world, 1);
        let run = world.session(&["touch", "ran"]).run();
        run.expect_code(1)
            .expect_stderr("0.0.0")
            .expect_stderr("cordon stop");
        assert!(!world.project().join("ran").exists(), "{run}");
        assert!(
            asked.load(Ordering::SeqCst),
            "it was asked whether it would leave"
        );
        fs::remove_file(socket(world)).unwrap();
        world.session(&["touch", "ran"]).run().expect_code(0);
    }

    fn an_idle_daemon_of_another_version_is_replaced(world) {
        let asked = old_daemon(world, 0);
        let run = world.session(&["touch", "ran"]).run();
        run.expect_code(0);
        assert!(asked.load(Ordering::SeqCst), "it was asked to leave");
        assert!(world.project().join("ran").exists(), "{run}");
    }
}

fn socket(world: &World) -> PathBuf {
    world.runtime().join("control.sock")
}

/// Listens where the daemon would, says that it is version 0.0.0 with so many sessions, and leaves
/// when asked to with none. The flag says whether it was asked.
fn old_daemon(world: &World, sessions: usize) -> Arc<AtomicBool> {
    let folder = world.folder(world.runtime());
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let path = socket(world);
    let listener = UnixListener::bind(&path).expect("the runtime directory is empty");
    world.give(&path);
    let asked = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&asked);
    thread::spawn(move || {
        while let Ok((mut stream, _peer)) = listener.accept() {
            while let Some(ask) = receive(&mut stream) {
                if ask.contains("stop") {
                    stop.store(true, Ordering::SeqCst);
                    if sessions == 0 {
                        let _ = fs::remove_file(&path);
                        send(&mut stream, "\"stopping\"");
                        return;
                    }
                    send(
                        &mut stream,
                        "{\"failed\":{\"message\":\"in use\",\"help\":null}}",
                    );
                } else {
                    let hello = format!(
                        "{{\"hello\":{{\"version\":\"0.0.0\",\"pid\":1,\"sessions\":{sessions}}}}}"
                    );
                    send(&mut stream, &hello);
                }
            }
        }
    });
    asked
}

/// One frame: a length of four bytes, little-endian, and that much JSON.
fn receive(stream: &mut UnixStream) -> Option<String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(u32::from_le_bytes(length)).ok()?];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn send(stream: &mut UnixStream, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let _ = stream.write_all(&length);
    let _ = stream.write_all(text.as_bytes());
}
