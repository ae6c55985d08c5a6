"""A sample MCP server with state: double-entry bookkeeping in memory, exact to the cent."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer(
    "ledger",
    version="1.0.0",
    instructions="Open accounts, then post entries from one to another. All is kept in memory only.",
    log_level="WARNING",
)
READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)

ACCOUNTS_MAX = 1_000
ENTRIES_MAX = 100_000
Kind = Literal["asset", "liability", "equity", "income", "expense"]
Account = Annotated[str, Field(min_length=1, max_length=60, description="Name of an account that was opened")]


@dataclass(frozen=True)
class Entry:
    number: int
    day: date
    debit: str
    credit: str
    cents: int
    text: str
    reverses: int | None = None

    def shown(self) -> dict[str, Any]:
        shown = {"number": self.number, "day": self.day.isoformat(), "debit": self.debit, "credit": self.credit}
        more = {"reverses": self.reverses} if self.reverses else {}
        return {**shown, "amount": _money(self.cents), "text": self.text, **more}


accounts: dict[str, Kind] = {}
entries: list[Entry] = []


def _money(cents: int) -> str:
    return f"{Decimal(cents) / 100:.2f}"


def _cents(amount: str) -> int:
    try:
        value = Decimal(amount)
        cents = value * 100
        if not value.is_finite() or cents <= 0 or cents != int(cents) or cents > 10**15:
            raise ToolError(f"Amount {amount!r} must be above zero, with at most two decimals, such as '19.90'.")
    except InvalidOperation:
        raise ToolError(f"Amount {amount!r} is not a number; write it like '19.90'.") from None
    return int(cents)


def _known(name: str) -> str:
    if name not in accounts:
        known = ", ".join(sorted(accounts)[:20]) or "none yet"
        raise ToolError(f"There is no account {name!r}. Open it with 'open_account'. Accounts: {known}.")
    return name


def _balance(name: str) -> int:
    """In the account's own direction: assets and expenses grow by debits, the others by credits."""
    debits = sum(e.cents for e in entries if e.debit == name) - sum(e.cents for e in entries if e.credit == name)
    return debits if accounts[name] in ("asset", "expense") else -debits


@server.tool(title="Open an account", annotations=WRITES)
def open_account(
    name: Annotated[str, Field(min_length=1, max_length=60, description="Such as 'bank' or 'rent'")],
    kind: Annotated[Kind, Field(description="What the account stands for")],
) -> dict[str, str]:
    """Open a bookkeeping account, for example a bank account (asset), sales (income) or rent (expense)."""
    if name in accounts:
        raise ToolError(f"Account {name!r} exists already, as {accounts[name]}.")
    if len(accounts) >= ACCOUNTS_MAX:
        raise ToolError(f"The ledger holds {ACCOUNTS_MAX} accounts and takes no more.")
    accounts[name] = kind
    return {"opened": name, "kind": kind}


@server.tool(title="Post an entry", annotations=WRITES)
def post_entry(
    debit: Account,
    credit: Account,
    amount: Annotated[str, Field(description="Decimal text with at most two decimals, such as '19.90'")],
    text: Annotated[str, Field(max_length=200, description="What it was for")] = "",
    day: Annotated[date | None, Field(description="ISO date; today if left out")] = None,
) -> dict[str, Any]:
    """Record a payment, purchase, sale or transfer: the amount is debited to one account and credited to another."""
    if _known(debit) == _known(credit):
        raise ToolError("Debit and credit are the same account; an entry moves money between two.")
    if len(entries) >= ENTRIES_MAX:
        raise ToolError(f"The ledger holds {ENTRIES_MAX} entries and takes no more.")
    entries.append(Entry(len(entries) + 1, day or date.today(), debit, credit, _cents(amount), text))
    return entries[-1].shown()


@server.tool(title="Reverse an entry", annotations=WRITES)
def reverse_entry(number: Annotated[int, Field(ge=1, description="Number of the entry to undo")]) -> dict[str, Any]:
    """Undo a wrong booking by posting the opposite entry; nothing is ever deleted from the books."""
    if number > len(entries):
        raise ToolError(f"There is no entry {number}; the last one is {len(entries)}.")
    if any(e.reverses == number for e in entries):
        raise ToolError(f"Entry {number} has been reversed already.")
    wrong = entries[number - 1]
    text = f"reversal of {number}"
    entries.append(Entry(len(entries) + 1, date.today(), wrong.credit, wrong.debit, wrong.cents, text, number))
    return entries[-1].shown()


@server.tool(title="Balance of an account", annotations=READ_ONLY)
def account_balance(name: Account) -> dict[str, str]:
    """How much money is on an account now."""
    return {"account": _known(name), "kind": accounts[name], "balance": _money(_balance(name))}


@server.tool(title="Journal", annotations=READ_ONLY)
def list_entries(
    account: Annotated[str | None, Field(description="Only entries of this account")] = None,
    limit: Annotated[int, Field(ge=1, le=500, description="At most this many, the newest")] = 50,
) -> dict[str, list[dict[str, Any]]]:
    """The latest bookings, of one account or of all: an account statement."""
    if account is not None:
        _known(account)
    chosen = [e for e in entries if account in (None, e.debit, e.credit)]
    return {"entries": [e.shown() for e in chosen[-limit:]]}


@server.tool(title="Trial balance", annotations=READ_ONLY)
def trial_balance() -> dict[str, Any]:
    """The balances of all accounts with profit or loss: a short balance sheet and income statement."""
    balances = {name: _balance(name) for name in accounts}
    totals = {kind: sum(b for n, b in balances.items() if accounts[n] == kind) for kind in set(accounts.values())}
    profit = totals.get("income", 0) - totals.get("expense", 0)
    return {"accounts": {n: _money(b) for n, b in balances.items()}, "profit": _money(profit), "entries": len(entries)}


if __name__ == "__main__":
    server.run()
