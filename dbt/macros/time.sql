{# Only what had landed by the night: a rerun of an old night sees what that night saw. #}
{% macro landed_by_night() -%}
    to_date(right(landed_interval, 10)) <= date '{{ var("ds") }}'
{%- endmacro %}

{# The first arrival day to compute: everything on the first build, then only what a new interval can have changed. #}
{% macro changed_from() -%}
    {% if is_incremental() %}date '{{ var("changed_from") }}'{% else %}date '1900-01-01'{% endif %}
{%- endmacro %}

{# The first day of the partition that a day lies in: incremental models overwrite whole partitions. #}
{% macro partition_of(day) -%}
    {% if var("grain") == "month" %}trunc({{ day }}, 'MM'){% else %}{{ day }}{% endif %}
{%- endmacro %}

{# The first snapshot day to compute. #}
{% macro snapshots_from() -%}
    greatest({{ changed_from() }}, date '{{ var("first_day") }}')
{%- endmacro %}

{# The last snapshot day: the night. #}
{% macro snapshots_until() -%}
    date '{{ var("ds") }}'
{%- endmacro %}

{# Windows end at the midnight after the snapshot day, and everything in them had arrived by then. #}
{% macro midnight_after(day) -%}
    cast(date_add({{ day }}, 1) as timestamp)
{%- endmacro %}
