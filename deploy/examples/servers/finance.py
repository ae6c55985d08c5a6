"""A sample MCP server: the time value of money. One tool reports progress while it simulates."""

import random
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("finance", version="1.0.0", instructions="Rates are percent per year.", log_level="WARNING")
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Money = Annotated[float, Field(gt=0, le=1e12, description="Amount, in any currency")]
Rate = Annotated[float, Field(gt=-100, le=1000, description="Percent per year, such as 4.5")]
Years = Annotated[float, Field(gt=0, le=100)]
CashFlows = Annotated[
    list[Annotated[float, Field(ge=-1e12, le=1e12)]],
    Field(min_length=2, max_length=1200, description="One amount a year, the first at once; payments are negative"),
]


def _payment(principal: float, annual_rate: float, months: int) -> float:
    r = annual_rate / 1200
    return principal / months if r == 0 else principal * r / (1 - (1 + r) ** -months)


def _present_value(rate: float, flows: list[float]) -> float:
    return sum(flow / (1 + rate) ** t for t, flow in enumerate(flows))


@server.tool(title="Loan payment", annotations=READ_ONLY)
def loan_payment(principal: Money, annual_rate: Rate, years: Years) -> dict[str, float]:
    """The monthly instalment of a mortgage or loan, and what its interest costs in total."""
    months = max(1, round(years * 12))
    payment = _payment(principal, annual_rate, months)
    total = payment * months
    return {
        "monthly_payment": round(payment, 2),
        "total_paid": round(total, 2),
        "total_interest": round(total - principal, 2),
    }


@server.tool(title="Repayment plan", annotations=READ_ONLY)
def amortization_schedule(principal: Money, annual_rate: Rate, years: Years) -> dict[str, Any]:
    """How a loan is paid off year by year: interest, repayment and remaining debt."""
    months = max(1, round(years * 12))
    payment, rest, rows = _payment(principal, annual_rate, months), principal, []
    for first in range(0, months, 12):
        interest = before = 0.0
        before = rest
        for _ in range(first, min(first + 12, months)):
            due = rest * annual_rate / 1200
            interest += due
            rest -= payment - due
        row = {"year": first // 12 + 1, "interest": round(interest, 2), "repaid": round(before - rest, 2)}
        rows.append({**row, "remaining": round(max(rest, 0.0), 2)})
    return {"monthly_payment": round(payment, 2), "years": rows}


@server.tool(title="Compound interest", annotations=READ_ONLY)
def compound_interest(
    start: Money,
    annual_rate: Rate,
    years: Years,
    monthly_saving: Annotated[float, Field(ge=0, le=1e9, description="Added at the end of each month")] = 0,
) -> dict[str, float]:
    """What savings grow to with compound interest, with or without a monthly savings plan."""
    months = round(years * 12)
    r = (1 + annual_rate / 100) ** (1 / 12) - 1
    growth = (1 + r) ** months
    end = start * growth + monthly_saving * (months if r == 0 else (growth - 1) / r)
    paid = start + monthly_saving * months
    return {"end": round(end, 2), "paid_in": round(paid, 2), "interest": round(end - paid, 2)}


@server.tool(title="Net present value", annotations=READ_ONLY)
def net_present_value(annual_rate: Rate, cash_flows: CashFlows) -> dict[str, Any]:
    """What a series of future payments is worth today: does an investment pay at a given discount rate?"""
    try:
        value = _present_value(annual_rate / 100, cash_flows)
    except OverflowError:
        raise ToolError("The rate is too far below zero for so many years.") from None
    return {"npv": round(value, 2), "worthwhile": value > 0}


@server.tool(title="Internal rate of return", annotations=READ_ONLY)
def internal_rate_of_return(cash_flows: CashFlows) -> dict[str, float]:
    """The yearly return in percent that an investment yields, from its payments and receipts (IRR)."""
    if not (min(cash_flows) < 0 < max(cash_flows)):
        raise ToolError("There must be at least one payment (negative) and one receipt (positive).")
    try:
        low, high = -0.99, 10.0
        f_low, f_high = _present_value(low, cash_flows), _present_value(high, cash_flows)
    except OverflowError:
        raise ToolError("The series is too long for a return near -100 %.") from None
    if f_low * f_high > 0:
        raise ToolError("No single return between -99 % and 1000 % a year fits these payments.")
    for _ in range(200):
        mid = (low + high) / 2
        value = _present_value(mid, cash_flows)
        if value * f_low > 0:
            low = mid
        else:
            high = mid
    return {"irr_percent": round(50 * (low + high), 4)}


@server.tool(title="Savings goal", annotations=READ_ONLY)
def savings_goal(goal: Money, annual_rate: Rate, years: Years) -> dict[str, float]:
    """How much to put aside each month to reach a sum of money in time."""
    months = max(1, round(years * 12))
    r = (1 + annual_rate / 100) ** (1 / 12) - 1
    saving = goal / months if r == 0 else goal * r / ((1 + r) ** months - 1)
    return {"monthly_saving": round(saving, 2), "paid_in": round(saving * months, 2)}


@server.tool(title="Simulate an investment", annotations=READ_ONLY)
async def simulate_portfolio(
    start: Money,
    years: Annotated[int, Field(ge=1, le=60)],
    ctx: Context,
    mean_return: Annotated[float, Field(ge=-50, le=50, description="Percent per year")] = 6.0,
    volatility: Annotated[float, Field(ge=0, le=100, description="Standard deviation, percent")] = 15.0,
    runs: Annotated[int, Field(ge=100, le=20_000)] = 2000,
    seed: Annotated[int, Field(description="Equal seeds give equal results")] = 1,
) -> dict[str, float]:
    """Monte Carlo simulation of a portfolio: the range of outcomes for retirement money, and the risk of a loss."""
    dice = random.Random(seed)  # noqa: S311 - a simulation that must repeat, not a secret
    ends: list[float] = []
    for batch in range(10):
        for _ in range(runs * batch // 10, runs * (batch + 1) // 10):
            value = start
            for _ in range(years):
                value *= max(0.0, 1 + dice.gauss(mean_return, volatility) / 100)
            ends.append(value)
        await ctx.report_progress(batch + 1, 10, f"{len(ends)} of {runs} runs")
    ends.sort()
    chosen = {f"p{p}": round(ends[len(ends) * p // 100], 2) for p in (5, 25, 50, 75, 95)}
    return {**chosen, "loss_probability_percent": round(100 * sum(e < start for e in ends) / len(ends), 1)}


if __name__ == "__main__":
    server.run()
