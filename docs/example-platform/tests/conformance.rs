//! The conformance kit on this platform.

platform_api::conformance!(example_platform::Counted);
