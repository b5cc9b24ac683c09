"""Diffusion processes against their closed forms."""

import numpy as np
import pytest
from scipy.integrate import quad

from postmean.base.errors import ConfigError
from postmean.contract.process import EDMProcess, FlowMatchingProcess, TableProcess, VPProcess

TABLE = TableProcess(t_knots=(0.0, 0.5, 2.0), s_knots=(1.0, 0.5, 0.1), sigma_knots=(0.002, 1.0, 80.0))
PROCESSES = [EDMProcess(), VPProcess(), VPProcess(beta_d=5.0, beta_min=1.0), FlowMatchingProcess(), TABLE]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.kind)
def test_time_and_noise_level_are_each_others_inverse(process):
    sigma = np.geomspace(0.0021, 79, 200)
    np.testing.assert_allclose(process.sigma(process.t(sigma)), sigma, rtol=1e-9)
    assert (np.diff(process.t(sigma)) > 0).all()
    assert process.t(sigma).shape == process.s(sigma).shape == sigma.shape
    t = process.t(sigma)
    np.testing.assert_allclose(process.t(process.sigma(t)), t, rtol=1e-9)


def test_vp_is_equations_44_and_45_and_preserves_variance():
    process = VPProcess()
    for t in (1e-5, 1e-3, 0.1, 0.5, 1.0):
        integral = quad(lambda u: 0.1 + 19.9 * u, 0, t)[0]  # int_0^t beta
        sigma, s = float(process.sigma(np.array(t))), None
        assert sigma == pytest.approx(np.sqrt(np.expm1(integral)), rel=1e-9)
        s = float(process.s(np.array(sigma)))
        assert s == pytest.approx(np.exp(-integral / 2), rel=1e-9)
        assert s**2 * (1 + sigma**2) == pytest.approx(1)


def test_flow_is_the_linear_interpolant():
    process, rng = FlowMatchingProcess(), np.random.default_rng(0)
    x, eps = rng.standard_normal((2, 50))
    for t in (0.01, 0.3, 0.9, 0.999):
        sigma = process.sigma(np.array(t))
        np.testing.assert_allclose(process.s(sigma) * (x + sigma * eps), (1 - t) * x + t * eps, rtol=1e-9)


def test_table_of_a_known_process_is_that_process():
    vp = VPProcess()
    t = np.linspace(1e-3, 1, 4000)
    table = TableProcess(
        t_knots=tuple(t.tolist()),
        s_knots=tuple(vp.s(vp.sigma(t)).tolist()),
        sigma_knots=tuple(vp.sigma(t).tolist()),
    )
    sigma = np.geomspace(0.02, 100, 300)
    np.testing.assert_allclose(table.t(sigma), vp.t(sigma), rtol=1e-3)
    np.testing.assert_allclose(table.s(sigma), vp.s(sigma), rtol=1e-3)


def test_table_is_read_from_csv_and_ends_are_errors(tmp_path):
    path = tmp_path / "process.csv"
    path.write_text("t,s,sigma\n0,1,0.002\n0.5,0.5,1\n2,0.1,80\n")
    table = TableProcess.from_csv(path)
    assert table == TABLE
    assert float(table.sigma(np.array(0.5))) == pytest.approx(1)
    assert float(table.s(np.array(1.0))) == pytest.approx(0.5)
    float32_ends = np.array([0.002, 80.0], np.float32)
    np.testing.assert_allclose(table.t(float32_ends), [0, 2], atol=1e-6)
    for outside in (0.001, 80.1):
        with pytest.raises(ConfigError, match="extend the table"):
            table.t(np.array([1.0, outside]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t,s,sigma\n",
        "t,s,sigma\n0,1,1\n",
        "t,sigma\n0,1\n1,2\n",
        "t,s,sigma\n0,1,x\n1,1,2\n",
        "t,s,sigma\n0,1\n1,1,2\n",
        "t,s,sigma\n0,1,2\n1,1,1\n",
        "t,s,sigma\n1,1,1\n0,1,2\n",
        "t,s,sigma\n0,1,0\n1,1,1\n",
        "t,s,sigma\n0,-1,1\n1,1,2\n",
        "t,s,sigma\n0,1,1\n1,1,inf\n",
        "t,s,sigma\n0,1,1\n1,nan,2\n",
    ],
)
def test_table_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "process.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match="process table"):
        TableProcess.from_csv(path)


def test_vp_settings_out_of_range_are_refused():
    for settings in ({"beta_d": 0.0}, {"beta_min": -1.0}, {"beta_d": float("nan")}, {"beta_min": float("inf")}):
        with pytest.raises(ConfigError, match="process"):
            VPProcess(**settings)
