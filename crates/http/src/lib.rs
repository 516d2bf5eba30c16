//! Shared server parts: listeners, body limits, errors to status, JSON.
