//! Calls about a session that does not run, and calls of nobody who is known: refusals without a
//! session to record them in.
//!
//! Each is a record of administration, so that the log has every refusal; but at most [`RECORDED`]
//! of a kind in a [`WINDOW`], because anybody may make them. How many were left out is recorded when
//! the window is over.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};

use super::{DOOR, Daemon, problem::Code};

/// Records of such refusals in a window.
const RECORDED: u32 = 16;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);

/// The refusals of this window.
#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    refused: u32,
}

/// What is done about one refusal.
#[derive(Debug, Eq, PartialEq)]
enum Turn {
    /// It is recorded.
    Recorded,
    /// It is the first that is not: whoever gets this records the number when the window is over.
    LeftOut,
    /// It is counted.
    Counted,
}

/// Of those whom nobody knows, and of those who are known: the former leave room for the latter.
static WINDOWS: [Mutex<Window>; 2] = [const { Mutex::new(Window::new()) }; 2];

/// Records a call that was refused for want of a session, of a caller, or of their right to ask.
pub async fn noted(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    // Taken out: over TLS an answer passes here twice.
    let [of_nobody, of_somebody] = &WINDOWS;
    let (window, why) = match response.extensions_mut().remove::<Code>() {
        // To look for a session that is over is not to ask for anything.
        Some(Code::NoSession) if method != Method::GET => {
            (of_somebody, "it names no session that runs")
        }
        Some(Code::NotOpen) => (of_somebody, "it is not open to whoever asks"),
        Some(Code::Unknown) => (of_nobody, "nobody is known by what was shown"),
        _other => return response,
    };
    note(&daemon, window, &format!("{method} {path}"), why).await;
    response
}

/// Records that something was refused, or counts it.
async fn note(daemon: &Arc<Daemon>, window: &'static Mutex<Window>, asked: &str, why: &str) {
    match locked(window).turn(Instant::now()) {
        Turn::Recorded => {}
        Turn::LeftOut => {
            // One that stops meanwhile tells it itself.
            let daemon = Arc::downgrade(daemon);
            tokio::spawn(async move {
                tokio::time::sleep(WINDOW).await;
                if let Some(daemon) = daemon.upgrade() {
                    tell(&daemon, window).await;
                }
            });
            return;
        }
        Turn::Counted => return,
    }
    daemon.policies.refuse_raw(DOOR, asked, why.into()).await;
}

/// Records how many were left out so far, of a daemon that stops.
pub async fn tell_left_out(daemon: &Daemon) {
    for window in &WINDOWS {
        tell(daemon, window).await;
    }
}

async fn tell(daemon: &Daemon, window: &Mutex<Window>) {
    let number = locked(window).end();
    if number > 0 {
        let why = format!("{number} more were refused within a minute and not recorded");
        daemon.policies.refuse_raw(DOOR, "calls", why).await;
    }
}

fn locked(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Window {
    const fn new() -> Self {
        Self {
            begun: None,
            refused: 0,
        }
    }

    fn turn(&mut self, now: Instant) -> Turn {
        let over = self.begun.is_none_or(|begun| now - begun >= WINDOW);
        // One of which some were left out is over when their number is taken.
        if over && self.refused <= RECORDED {
            self.begun = Some(now);
            self.refused = 0;
        }
        self.refused = self.refused.saturating_add(1);
        match self.refused {
            ..=RECORDED => Turn::Recorded,
            number if number == RECORDED + 1 => Turn::LeftOut,
            _further => Turn::Counted,
        }
    }

    /// How many were left out; a new one begins with the next refusal.
    fn end(&mut self) -> u32 {
        let left_out = self.refused.saturating_sub(RECORDED);
        *self = Self::new();
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n24_a_flood_of_refusals_is_a_few_records_and_a_number() {
        let mut window = Window::new();
        let begun = Instant::now();
        let turns = |window: &mut Window, number: usize, at: Instant| -> Vec<Turn> {
            (0..number).map(|_| window.turn(at)).collect()
        };
        let all = turns(&mut window, 100, begun);
        assert!(all[..16].iter().all(|turn| *turn == Turn::Recorded));
        assert_eq!(all[16], Turn::LeftOut);
        assert!(all[17..].iter().all(|turn| *turn == Turn::Counted));
        // The number is not lost to one that comes just then.
        assert_eq!(window.turn(begun + WINDOW), Turn::Counted);
        assert_eq!(window.end(), 85);
        assert_eq!(window.turn(begun + WINDOW), Turn::Recorded);
        assert_eq!(window.turn(begun + 2 * WINDOW), Turn::Recorded);
        assert_eq!(window.refused, 1, "nothing was left out: it began anew");
    }
}
