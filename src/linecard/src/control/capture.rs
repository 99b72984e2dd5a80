//! The one capture that can be started from outside.

use std::time::{Duration, Instant};

use linecard_engine::Remote;
use linecard_engine::tap::Direction;
use linecard_traffic::capture::{CaptureConfig, CaptureStats, Ended, Session, Target};

use super::Refused;
use super::message::{CaptureRequest, CaptureStatus};

/// How long whoever ends a capture waits for the file to be whole; others wait as well.
const END_PATIENCE: Duration = Duration::from_millis(300);

/// A capture, at work or over.
pub(super) struct Recording {
    session: Session,
}

impl Recording {
    pub(super) fn start(engine: &Remote, request: &CaptureRequest) -> Result<Self, Refused> {
        let ports = engine.ports().len();
        let mut config = CaptureConfig::new(ports, Target::File(request.file.clone().into()));
        if !request.ports.is_empty() {
            config.directions = vec![Direction::None; ports];
            for port in &request.ports {
                let Some(direction) = config.directions.get_mut(usize::from(*port)) else {
                    return Err(Refused(format!(
                        "there is no port {port}; the ports are 0 to {}",
                        ports.saturating_sub(1)
                    )));
                };
                *direction = Direction::Both;
            }
        }
        if let Some(filter) = &request.filter {
            config.filter = Some(filter.parse().map_err(Refused::because)?);
        }
        if let Some(snap) = request.snap {
            config.snaplen = usize::try_from(snap).unwrap_or(usize::MAX);
        }
        let session = Session::start(&engine.taps(), config).map_err(|e| Refused::chain(&e))?;
        Ok(Self { session })
    }

    pub(super) fn status(&self) -> CaptureStatus {
        let CaptureStats {
            written,
            missed,
            dropped,
            lost,
            file,
            ended,
            ..
        } = self.session.stats();
        CaptureStatus {
            running: !self.session.is_finished(),
            file,
            frames: written,
            drops: dropped + lost,
            missed,
            problem: ended.and_then(problem),
        }
    }

    /// Ends it. What is not written soon is written later, and the status says so.
    pub(super) fn stop(&self) {
        self.session.ask_to_stop();
        let start = Instant::now();
        while !self.session.is_finished() && start.elapsed() < END_PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What to say of an end that nobody asked for.
fn problem(ended: Ended) -> Option<String> {
    match ended {
        Ended::Failed(why) => Some(why),
        Ended::ReaderGone => Some("the reader of the pipe has gone".to_owned()),
        Ended::ReaderHangs => Some("the reader of the pipe took nothing".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_nobody_asked_for_are_told() {
        let full = Ended::Failed("no space left".to_owned());
        for (ended, says) in [
            (full, "no space"),
            (Ended::ReaderGone, "gone"),
            (Ended::ReaderHangs, "took nothing"),
        ] {
            assert!(problem(ended).unwrap().contains(says), "{says}");
        }
        assert_eq!(problem(Ended::Stopped), None);
    }
}
