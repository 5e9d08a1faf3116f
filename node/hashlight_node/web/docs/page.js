"use strict";

// Nothing leaves this origin: no validator, no deep link to elsewhere. The token that
// is typed under "Authorize" lives in this page only, and is gone when it is closed.
window.ui = SwaggerUIBundle({
  url: "/v1/openapi.json",
  domNode: document.getElementById("swagger-ui"),
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  queryConfigEnabled: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
