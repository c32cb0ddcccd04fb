{# One query for what would be several tests: each costs a Spark job. #}

{% test unique_grain(model, columns) %}
select {{ columns | join(", ") }}, count(*) as copies
from {{ model }}
group by {{ columns | join(", ") }}
having count(*) > 1
{% endtest %}

{% test never_null(model, columns) %}
select *
from {{ model }}
where {% for column in columns %}{{ column }} is null{{ " or " if not loop.last }}{% endfor %}
{% endtest %}

{# Every identity holds on every row; an identity over a null does not apply. #}
{% test identities(model, expressions) %}
select *
from {{ model }}
where {% for expression in expressions %}not ({{ expression }}){{ " or " if not loop.last }}{% endfor %}
{% endtest %}
