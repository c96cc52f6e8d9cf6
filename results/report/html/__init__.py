"""The pieces of the HTML page: drawings as SVG, tables as data, and the templates that set them."""
