//! The kit that tests the contract: machine-code guests against any platform.
//!
//! A platform's crate has one test file:
//!
//! ```text
//! platform_api::conformance!(my_platform::MyPlatform);
//! ```
//!
//! which makes one `#[test]` of each case. A case boots an engine of its own and panics with what
//! went against the contract. What a machine can't run is skipped loudly.

pub mod contexts;
pub mod exceptions;
pub mod faults;
pub mod features;
pub mod guest;
pub mod hostile;
pub mod inside;
pub mod interrupts;
pub mod large;
pub mod memory;
pub mod privileged;
pub mod registers;
pub mod state;

use crate::{Engine, Platform, Probe};
use std::sync::Arc;

/// Runs one case, if the platform can run here at all.
pub fn run(platform: &dyn Platform, case: fn(&Arc<dyn Engine>)) {
    if let Probe::Unavailable { reason, remedy } = platform.probe(None) {
        skip(&format!("platform {}: {reason}; {remedy}", platform.name()));
        return;
    }
    let device = platform
        .open_device(None)
        .expect("the device opens, since the probe succeeded");
    let engine = platform
        .boot(device)
        .expect("it boots, since the probe succeeded");
    case(&engine);
}

/// Says loudly that something could not be tested.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

/// One `#[test]` for each case of the kit.
#[macro_export]
macro_rules! conformance {
    ($platform:expr) => {
        $crate::conformance!(@ $platform;
            registers::general_registers_survive_ten_thousand_switches,
            registers::flags_survive,
            registers::segment_bases_reach_the_guest,
            state::extended_state_survives_ten_thousand_switches,
            state::two_contexts_keep_their_own_state,
            state::a_fresh_state_is_that_of_a_fresh_program,
            state::hostile_states_are_refused_or_harmless,
            faults::loads_stores_and_fetches_tell_address_and_access,
            faults::a_fault_can_be_mended_and_resumed,
            faults::a_page_without_backing_is_a_bus_fault,
            exceptions::divide_undefined_breakpoint,
            exceptions::alignment_and_single_step,
            exceptions::steps_over_calls_and_flags,
            exceptions::privileged_instructions_and_bad_addresses,
            exceptions::thirty_two_bit_doors_are_shut,
            privileged::a_kernels_registers_are_out_of_reach,
            privileged::performance_counters_are_not_read,
            privileged::hypercalls_come_to_nothing,
            privileged::virtual_machines_are_not_made_inside,
            privileged::far_returns_lead_to_user_code_alone,
            privileged::a_far_return_to_32_bit_code_finds_no_call,
            privileged::a_kernels_segments_are_not_loaded,
            privileged::addresses_that_are_none,
            privileged::software_interrupts,
            features::cpuid_is_the_same_for_all,
            features::what_is_shown_works,
            features::each_component_that_is_on_is_kept,
            features::the_time_stamp_goes_forwards,
            memory::maps_are_seen_by_all_contexts,
            memory::unmaps_take_effect_while_others_run,
            memory::unmaps_from_a_stranger_take_effect_while_others_run,
            memory::protections_take_effect_while_others_run,
            memory::batches_keep_their_order,
            memory::protecting_goes_on_behind_a_hole,
            memory::a_refused_mapping_is_told,
            memory::a_fork_has_the_same_mappings_and_parts_from_then_on,
            memory::fork_applies_its_batch_first,
            memory::a_context_moves_between_spaces,
            memory::destroyed_spaces_leave_nothing,
            large::parts_of_large_mappings_change_by_themselves,
            large::a_page_of_a_large_mapping_goes_while_others_run,
            large::a_large_mapping_of_a_file_that_is_cut,
            large::forks_of_a_large_mapping_part_page_by_page,
            interrupts::one_before_a_switch_ends_it,
            interrupts::what_did_not_begin_begins_later,
            interrupts::none_is_lost,
            interrupts::a_storm_is_survived,
            contexts::a_thousand_side_by_side,
            contexts::threads_run_at_the_same_time,
            contexts::retired_contexts_are_used_again,
            inside::a_call_to_the_vsyscall_page_stays_inside,
            inside::a_jump_to_any_byte_of_the_platforms_own_stays_inside,
            hostile::registers_of_any_value_harm_nobody,
            hostile::segment_bases_set_by_the_guest_are_kept,
            hostile::a_scribbling_guest_harms_nobody,
        );
    };
    (@ $platform:expr; $($module:ident::$case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::run(&$platform, $crate::conformance::$module::$case);
            }
        )*
    };
}
