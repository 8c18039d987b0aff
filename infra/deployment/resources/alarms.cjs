module.exports = () => ({ Resources: {} });
