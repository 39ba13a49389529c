//! Verifies a log offline. Shares no code with the writer.
