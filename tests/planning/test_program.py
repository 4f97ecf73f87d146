"""The reader of compiled programs, on a program short enough to add up by hand."""

import pytest

from mae_jax.planning import program

CYCLES = '"window_config":{"estimated_cycles":"%d"}'
PROGRAM = """HloModule jit_train_step, num_partitions=4

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %dot.1 = f32[8]{0} convolution(%a, %b), metadata={op_name="jit(f)/while/body/dot"}, backend_config={CY7}
  ROOT %t.1 = (s32[], f32[8]{0}) tuple(%i, %dot.1)
}

%condition (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[] constant(12)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %c = f32[8]{0} convolution(%p, %p)
}

%moved (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %c = f32[8]{0} transpose(%p)
}

%scattered (p: f32[8]) -> f32[2] {
  %p = f32[8]{0} parameter(0)
  %sum = f32[8]{0} all-reduce(%p), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %s = f32[2]{0} dynamic-slice(%sum, %i)
}

%begun (p: f32[8]) -> (f32[8], f32[32]) {
  %p = f32[8]{0} parameter(0)
  %g.1 = f32[32]{0} all-gather(%p), replica_groups=[1,4]<=[4], frontend_attributes={chain_id="7"}
  ROOT %b = (f32[8]{0}, f32[32]{0}) custom-call(%g.1), custom_call_target="AsyncCollectiveStart"
}

%meanwhile (p: f32[8], q: f32[8]) -> (f32[8], f32[32]) {
  %p = f32[8]{0} parameter(0)
  %c = f32[8]{0} convolution(%p, %p)
  %g.2 = f32[32]{0} all-gather(%p), replica_groups=[1,4]<=[4], frontend_attributes={chain_id="7"}
  ROOT %b = (f32[8]{0}, f32[32]{0}) tuple(%c, %g.2)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %f.1 = f32[8]{0} fusion(%x), kind=kOutput, calls=%fused, backend_config={CY100}
  %f.2 = f32[8]{0} fusion(%x), kind=kLoop, calls=%moved, backend_config={CY10}
  %f.3 = f32[8]{0} add(%x, %x), metadata={op_name="jit(f)/transpose(jvp(attention))/add"}, backend_config={CY20}
  %f.4 = f32[8]{0} add(%x, %x), metadata={op_name="jit(f)/optimizer/add"}, backend_config={CY30}
  %f.5 = (f32[8]{0:T(8,128)}, bf16[8]{0}) fusion(%x), kind=kLoop, metadata={op_name="jit(f)/jvp(normalisation)/add"}, backend_config={CY40}
  %w = (s32[], f32[8]{0}) while(%t), condition=%condition, body=%body
  %r = (bf16[4,128]{1,0:T(8,128)(2,1)}, f32[16]{0}) all-reduce(%x, %x), replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, to_apply=%add
  %g = f32[40]{0} all-gather(%x), replica_groups=[1,4]<=[4], dimensions={0}
  %s = f32[2]{0} fusion(%x), kind=kCustom, calls=%scattered, backend_config={CY5}
  %a.1 = (f32[8]{0}, f32[32]{0}) fusion(%x), kind=kCustom, calls=%begun
  %a.2 = (f32[8]{0}, f32[32]{0}) fusion(%x), kind=kOutput, calls=%meanwhile, backend_config={CY3}
  %v = (bf16[2,8,128]{2,1,0:T(8,128)(2,1)}, u32[], token[]) recv(%token), is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,3:5}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %o = f32[8]{0} add(%f.1, %f.2), backend_config={CY1}
}
"""  # noqa: E501
for number in (100, 10, 20, 30, 40, 7, 5, 3, 1):
    PROGRAM = PROGRAM.replace("{CY%d}" % number, "{" + CYCLES % number + "}")  # noqa: UP031


def test_cycles_are_added_by_purpose_and_loops_counted():
    assert program.read(PROGRAM).cycles == {
        "dense": 100 + 12 * 7 + 3,
        "attention": 20,
        "normalisation": 40,
        "optimizer": 30,
        "data movement": 10,
        "other": 1,
    }


def test_collectives_are_counted_by_what_a_device_receives():
    collectives = program.read(PROGRAM).collectives
    found = {c.kind: (c.count, c.bytes) for c in collectives if c.network == "ici"}
    (between,) = [c for c in collectives if c.network == "dcn"]
    # Of four slices: what a device's own part of the sum takes on its way round.
    assert between == program.Collective("all-reduce", 1, 2 * 2 * 8 * 128 * 2 * 3 / 4, "dcn")
    assert found == {
        "all-reduce": (1, 2 * (4 * 128 * 2 + 16 * 4) * 3 / 4),
        "all-gather": (2, (40 + 32) * 4 * 3 / 4),  # one of them behind other work
        "reduce-scatter": (1, 8 * 4 * 3 / 4),
    }


def test_programs_without_estimates_are_refused():
    with pytest.raises(ValueError, match="only TPU programs"):
        program.read(PROGRAM.replace("estimated_cycles", "x"))
    with pytest.raises(ValueError, match="no ENTRY"):
        program.read("nothing")
