{# The live lake has one namespace a layer; a person's own tables all stand in one namespace. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name if custom_schema_name and target.name == "live" else target.schema }}
{%- endmacro %}

{# Replacing an Iceberg table keeps its tags; dropping it would take every night's tag with it. `create table` in
   dbt-spark is `create or replace` for Iceberg, so nothing needs to be dropped first. #}
{% macro spark__drop_relation(relation) -%}
    {% if relation.type == "view" %}
        {%- call statement("drop_relation", auto_begin=False) -%}
            drop view if exists {{ relation }}
        {%- endcall -%}
    {% endif %}
{%- endmacro %}

{# dbt-spark asserts a contract where it creates a table, not where it adds to one: an incremental model's new rows come
   through a view. #}
{% macro spark__create_temporary_view(relation, compiled_code) -%}
    {%- set contract = config.get("contract") -%}
    {%- if contract and contract.enforced -%}{{ get_assert_columns_equivalent(compiled_code) }}{%- endif -%}
    create or replace temporary view {{ relation }} as
      {{ compiled_code }}
{%- endmacro -%}
