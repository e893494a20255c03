//! The conformance kit on this platform.

platform_api::conformance!(platform_kvm::Kvm);
