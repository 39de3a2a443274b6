"""`spend`: what was spent, what is left of the budgets, and whether the providers say the same."""

from typing import TYPE_CHECKING, Any

import click

from anykontext.cli.options import config_option, json_option, said_options, say_of

if TYPE_CHECKING:
    from datetime import datetime

    from anykontext.cli.say import Say
    from anykontext.model.spend import Spend

MOST = 40  # bars of a chart, and budgets of values of a tag, that are shown
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # a spreadsheet would carry out what begins so, after any space


@click.group(invoke_without_command=True)
@click.option("--since", metavar="WHEN", help="Submits from then on: 2026-11-20, an ISO time (UTC), 3h or 2d ago.")
@click.option("--until", metavar="WHEN", help="Submits before then.")
@click.option(
    "--by", metavar="WORDS", default="provider", show_default=True, help="Group by provider, model, day, tag:NAME, job."
)
@click.option("--tag", metavar="NAME[=VALUE]", help="Only jobs with this tag.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the groups as CSV.")
@config_option
@json_option
@said_options
@click.pass_context
def spend(context: click.Context, /, **given: Any) -> None:
    """Tell what was spent, what is at risk, and what is left of each budget.

    \b
    anykontext spend --since 2026-11-01 --by day
    anykontext spend --by provider,model --json
    anykontext spend --by tag:customer --csv > november.csv
    anykontext spend reconcile                     do the providers' balances agree?

    Sums are those of the ledger, in USD. Days, and the days and months of budgets, are those of UTC. In CSV a value
    that begins with = + - or @ has a single quote before it, so that no spreadsheet takes it for a formula.
    """  # noqa: D301 - click reads the backspace
    if context.invoked_subcommand is None:
        _spend(given)
        return
    for name in given:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"options go behind the word: anykontext spend {context.invoked_subcommand} ...")


def _spend(given: dict[str, Any]) -> None:
    import json
    from datetime import UTC, datetime

    from anykontext.cli.jobs.words import in_memory, looked_up, moment
    from anykontext.cli.logs import logs
    from anykontext.client import spending
    from anykontext.model.errors import InvalidRequest

    if given["as_csv"] and given["as_json"]:
        raise click.UsageError("--csv and --json exclude each other")
    say, now = say_of(given), datetime.now(UTC)
    since, until = (given[name] and moment(given[name], now) for name in ("since", "until"))
    if since and until and since > until:
        raise InvalidRequest(f"--since ({since:%Y-%m-%d %H:%M}) is after --until ({until:%Y-%m-%d %H:%M}, both UTC)")
    by = tuple(filter(None, (word.strip() for word in given["by"].split(","))))
    with logs(say), looked_up(given["config"]) as store:
        found = spending.spend(store, since=since, until=until, by=by, tag=given["tag"])
        if in_memory(store):
            say.warning("the ledger is in memory ([ledger] url), so what other processes spend is not known")
    if say.as_json:
        say.result(json.dumps(found.to_json()))
    elif given["as_csv"]:
        say.result(as_csv(found))
    else:
        _show(found, since, until, say, store.config.ledger.keep_days)


def _show(found: "Spend", since: "datetime | None", until: "datetime | None", say: "Say", keep_days: int) -> None:
    """The table, on a terminal a chart, and the budgets."""
    import sys

    from anykontext.cli.say import on_terminal
    from anykontext.cli.tables import show

    title = _title(since, until)
    if not found.rows:
        say.result(f"Nothing was {title.lower()}.")
    else:
        title = title if since else f"{title} (the ledger keeps {keep_days} days)"
        show(say, [head.upper() for head in found.heads], found.cells, title)
        if on_terminal(sys.stdout) and len(found.rows) > 1:
            say.result("\n" + "\n".join(chart(found)))
    if found.unknown:
        say.warning(f"{found.unknown} submits of unknown price are in no sum")
    if found.at_risk.amount:
        say.note("What is at risk is settled with `anykontext jobs collect`, or `anykontext jobs resolve`.")
    if found.budgets:
        _show_budgets(found, say)


def _title(since: "datetime | None", until: "datetime | None") -> str:
    from datetime import UTC

    words = [
        f"{word} {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for word, at in (("since", since), ("until", until)) if at
    ]
    return " ".join(["Spent", *words])


def chart(found: "Spend") -> list[str]:
    """A bar for each group: days in their order, others the dearest first."""
    import shutil
    import sys

    from anykontext.cli.chart import bars, marks
    from anykontext.cli.say import printable

    rows = [(printable(row.label), row.total.amount, row.at_risk.amount) for row in found.rows]
    if "day" not in found.by:
        rows.sort(key=lambda row: row[1] + row[2], reverse=True)
    kept = rows[-MOST:] if "day" in found.by else rows[:MOST]
    lines = bars(kept, shutil.get_terminal_size().columns, sys.stdout)
    if any(row[2] for row in kept):
        solid, light = marks(sys.stdout)
        lines.append(f"{solid} spent  {light} at risk, in USD")
    if len(kept) < len(rows):
        lines.append(f"{len(rows) - len(kept)} more are in the table only.")
    return lines


def _show_budgets(found: "Spend", say: "Say") -> None:
    """A line for each budget; of those for values of a tag, the ones of which least is left."""
    from anykontext.cli.say import printable

    fixed = [one for one in found.budgets if one.cap.tag is None]
    tagged = sorted((one for one in found.budgets if one.cap.tag is not None), key=lambda one: one.left)
    lines = [f"Budget {one}" for one in [*fixed, *tagged[:MOST]]]
    if len(tagged) > MOST:
        lines.append(f"{len(tagged) - MOST} budgets of which more is left are not shown; --json has them.")
    say.result("\n" + "\n".join(map(printable, lines)))


def as_csv(found: "Spend") -> str:
    """The groups as in RFC 4180, with a header; a tag that a job does not have is an empty field."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*found.by, "amount", "at_risk", "currency", "unknown", "submits"])
    for row in found.rows:
        words = [unformulated(value or "") for value in row.group.values()]
        sums = (f"{row.total.amount:f}", f"{row.at_risk.amount:f}", row.total.currency)
        writer.writerow([*words, *sums, row.unknown, row.submits])
    return out.getvalue().removesuffix("\n")


def unformulated(value: str) -> str:
    """A text that no spreadsheet carries out.

    >>> unformulated("=1+1")
    "'=1+1"
    """
    return f"'{value}" if value.lstrip().startswith(FORMULA) or value[:1] in {"\t", "\r", "\n"} else value


@spend.command()
@click.option("--since", metavar="WHEN", help="Compare with the first reading since then; without it, with the last.")
@config_option
@json_option
@said_options
def reconcile(**given: Any) -> int:
    """Compare what left the providers' balances with the ledger's sum; nothing is spent.

    The balances are read now, and compared with an earlier reading: each `check` and each `reconcile` keeps one. A
    top-up between the two shows as less that left the balance, as do jobs under keys given to `with_options`, which
    the ledger counts under the provider's name; jobs of other machines on the same account show as more.
    """
    import json
    from datetime import UTC, datetime

    from anykontext.cli.check import exit_code
    from anykontext.cli.jobs.words import moment
    from anykontext.cli.logs import logs
    from anykontext.cli.tables import show
    from anykontext.client import Client, balances

    say = say_of(given)
    since = given["since"] and moment(given["since"], datetime.now(UTC)).timestamp()
    with logs(say), Client(given["config"]) as client:
        checks = client.check()
        core = client._core
        found = [balances.reconcile(core.ledger, core.providers[one.provider], one, since) for one in checks]
    if say.as_json:
        say.result(json.dumps([one.to_json() for one in found]))
    else:
        heads = ("PROVIDER", "SINCE (UTC)", "FROM BALANCE", "LEDGER", "AT RISK", "DIFFERENCE", "")
        show(say, heads, [_compared(one) for one in found])
    return exit_code(checks)


def _compared(one: Any) -> tuple[str, ...]:
    from anykontext.cli.jobs.words import short

    if one.change is None:
        return (one.provider, "", "", "", "", "", one.message)
    sums = [f"{amount:f} USD" for amount in (one.change, one.spent, one.at_risk, one.difference)]
    return (one.provider, short(one.before.read_at), *sums, one.message)
