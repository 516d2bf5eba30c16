//! A small simulated shop that sends traces and metrics through the real doors.
