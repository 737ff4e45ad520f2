"""The order of services: what may be written, and that it can be followed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from libgitopper import ConfigError
from tests.support.configs import GLOBAL, entry, problems, services
from tests.support.configvalues import toml


class TestOrder:
    def test_services_of_one_host_in_any_order_of_the_file(self) -> None:
        text = (
            GLOBAL + entry('after = ["app", "db"]') + entry(name="app") + entry('after = "app"', name="db")
        )
        assert [service.after for service in services(text)] == [("app", "db"), (), ("app",)]

    def test_a_name_that_this_host_runs_for_another_entry(self) -> None:
        text = GLOBAL + entry('after = "app"', machine='["web1", "web2"]')
        text += entry(name="app") + entry(name="app", machine='"web2"')
        assert services(text)

    def test_a_service_of_other_machines_only(self) -> None:
        text = GLOBAL + entry('after = "app"') + entry(name="app", machine='"db1"')
        ((path, message),) = problems(text)
        assert path == "services[0].after"
        assert message == (
            '"app" (services[1]) does not run on web1, as this service does; take it out, or have it run'
            " there too"
        )

    def test_one_host_of_many_is_told_and_is_found_on_any(self) -> None:
        machines = '["db1", "db2", "db3"]'
        text = GLOBAL + entry('after = "app"', machine=machines) + entry(name="app", machine='"db1"')
        ((path, message),) = problems(text)
        assert path == "services[0].after"
        assert "does not run on db2" in message

    def test_a_glob_that_means_the_host_will_do(self) -> None:
        text = GLOBAL + entry('after = "app"') + entry(name="app", machine='"web*"')
        assert len(services(text)) == 2

    def test_two_in_a_circle(self) -> None:
        text = GLOBAL + entry('after = "app"') + entry('after = "nginx"', name="app")
        ((path, message),) = problems(text)
        assert path == "services[0].after"
        assert message == (
            'this service waits for "app", which waits for "nginx"; take one of them out of its after'
        )

    def test_a_circle_begins_with_the_first_of_the_file_and_leaves_others_out(self) -> None:
        text = GLOBAL + entry('after = "b"', name="outside")
        text += (
            entry('after = "c"', name="b") + entry('after = "d"', name="c") + entry('after = "b"', name="d")
        )
        ((path, message),) = problems(text)
        assert path == "services[1].after"
        assert 'waits for "c", which waits for "d", which waits for "b"; take' in message

    def test_two_circles_are_two_problems(self) -> None:
        text = GLOBAL + entry('after = "b"', name="a") + entry('after = "a"', name="b")
        text += entry('after = "d"', name="c") + entry('after = "c"', name="d")
        assert [path for path, _ in problems(text)] == ["services[0].after", "services[2].after"]

    def test_a_circle_of_a_glob_is_found_on_any_host(self) -> None:
        text = GLOBAL + entry('after = "b"', name="a", machine='"db*"')
        text += entry('after = "a"', name="b", machine='["DB*", "mail"]') + entry(
            name="a", machine='"mail"'
        )
        assert [path for path, _ in problems(text)] == ["services[0].after"]

    def test_a_circle_of_a_glob_with_what_runs_everywhere_is_found_on_any_host(self) -> None:
        text = GLOBAL + entry('after = "b"', name="a", machine='"db*"')
        text += entry('after = "a"', name="b", machine='"*"') + entry(name="a", machine='"web1"')
        assert [path for path, _ in problems(text)] == ["services[0].after"]

    def test_what_goes_round_on_no_single_host_is_no_circle(self) -> None:
        text = GLOBAL + entry('after = "b"', name="a") + entry(name="b")
        text += entry('after = "a"', name="b", machine='"db1"') + entry(name="a", machine='"db1"')
        assert len(services(text)) == 2

    def test_a_long_chain_is_no_circle(self) -> None:
        chain = [entry(f'after = "s{i + 1}"', name=f"s{i}") for i in range(1500)]
        assert len(services(GLOBAL + "".join(chain) + entry(name="s1500"))) == 1501

    def test_a_bad_name_or_machine_elsewhere_does_not_make_after_wrong(self) -> None:
        text = GLOBAL + entry('after = "app"') + entry(name="a b")
        assert [path for path, _ in problems(text)] == ["services[1].service"]
        text = GLOBAL + entry('after = "app"') + entry(name="app", machine='"we b"')
        assert [path for path, _ in problems(text)] == ["services[1].machine"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sets(st.sampled_from(["a", "b", "c", "d"])),
            st.sampled_from(["web1", "web*", "db1", "*"]),
        ),
        max_size=5,
    )
)
def test_an_order_that_is_accepted_can_be_followed(drawn: list[tuple[str, set[str], str]]) -> None:
    text = GLOBAL + "services = []\n" if not drawn else GLOBAL
    for number, (name, after, machine) in enumerate(drawn):
        more = f'after = {toml(sorted(after))}\ndirs = [{{ local = "/s/{number}", link = "x" }}]'
        text += f'[[services]]\nmachine = "{machine}"\nservice = "{name}"\n{more}\n'
    try:
        found = services(text)
    except ConfigError:
        return
    ready: set[str] = set()
    for _ in found:
        ready |= {service.name for service in found if ready.issuperset(service.after)}
    assert ready == {service.name for service in found}
